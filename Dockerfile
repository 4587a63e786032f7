# The images of a cluster: simulators and flows run in `pod`; `worker` adds what a Kubernetes worker needs.
#
#   docker build -t prefect-simopt .                                              for pods
#   docker build -t prefect-simopt-worker --target worker .
#   docker build -t prefect-simopt-gpu --build-arg EXTRAS=aws,cuda .              with JAX for CUDA
#   buildah bud --isolation chroot -t prefect-simopt .                            without a Docker engine
#
# Add --build-arg REVISION=$(git rev-parse HEAD). Where pip reaches only an index of your own, give its settings as a
# secret, which no layer keeps: --secret id=pip,src=pip.conf

ARG BASE_IMAGE=docker.io/library/python:3.11.14-slim-bookworm
ARG BUSYBOX_IMAGE=docker.io/library/busybox:1.37.0-musl

FROM ${BUSYBOX_IMAGE} AS busybox


# What we depend on, as pinned, without our own code: a change of that does not install everything again.
FROM ${BASE_IMAGE} AS dependencies
ARG EXTRAS=aws
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_QUIET=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY pyproject.toml requirements/constraints.txt ./
# Bytecode is compiled here, since pods cannot write it; it holds for the source beside it whatever the file times are.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; extras = p['optional-dependencies']; \
print(*p['dependencies'], *(each for extra in '${EXTRAS}'.split(',') if extra for each in extras[extra]), sep='\n')" >requirements.txt \
 && python3 -m venv --without-pip /opt/simopt \
 && python3 -m pip --python /opt/simopt/bin/python install -c constraints.txt -r requirements.txt \
 && cd /opt/simopt/lib/python3*/site-packages \
 && rm -rf numpy/*/tests pandas/tests scipy/*/tests scipy/*/*/tests matplotlib/tests xarray/tests \
 && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash . >/dev/null


FROM dependencies AS package
COPY . .
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m pip wheel --no-deps --wheel-dir /wheels . \
 && python3 -m pip --python /opt/simopt/bin/python install --no-deps --no-index --prefix /package /wheels/*.whl \
 && python3 -m compileall -q --invalidation-mode unchecked-hash /package/lib


FROM ${BASE_IMAGE} AS runtime
COPY --from=dependencies /opt/simopt /opt/simopt
# Everything that is written goes to /tmp: a root file system that is read-only serves, with a volume there.
ENV PATH=/opt/simopt/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1
LABEL org.opencontainers.image.title="prefect-simopt" \
      org.opencontainers.image.description="Simulation-based optimization as a first-class Prefect workload" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/prefect-simopt/prefect-simopt"


FROM runtime AS worker
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=bind,source=requirements,target=/requirements \
    PATH=${PATH#/opt/simopt/bin:} python3 -m pip --python /opt/simopt/bin/python --disable-pip-version-check install \
      --quiet --no-cache-dir --no-compile --root-user-action ignore -c /requirements/constraints.txt prefect-kubernetes \
 && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/simopt/lib >/dev/null
COPY --from=package /package /opt/simopt
COPY prefect.yaml /opt/simopt/prefect.yaml
WORKDIR /opt/simopt
USER 10001:10001
CMD ["prefect", "worker", "start", "--pool", "kubernetes", "--type", "kubernetes"]
ARG REVISION=unknown
LABEL org.opencontainers.image.revision="${REVISION}"


FROM runtime AS pod
# A static shell and its tools, and the script that runs trials with it in containers of other images.
COPY --from=busybox /bin/busybox /usr/local/lib/simopt/busybox
COPY --from=package /package /opt/simopt
RUN ln -s /opt/simopt/lib/python3*/site-packages/prefect_simopt/simulators/runner.sh /usr/local/lib/simopt/runner.sh
WORKDIR /tmp
USER 10001:10001
CMD ["simopt", "--help"]
ARG REVISION=unknown
LABEL org.opencontainers.image.revision="${REVISION}"
