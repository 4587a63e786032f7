{{/* The name that all objects begin with. */}}
{{- define "simopt.name" -}}
{{- if contains "simopt" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-simopt" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "simopt.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "simopt.labels" -}}
{{ include "simopt.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "simopt.podImage" -}}
{{ .Values.images.pod.repository }}:{{ .Values.images.pod.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "simopt.workerImage" -}}
{{ .Values.images.worker.repository }}:{{ .Values.images.worker.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "simopt.apiUrl" -}}
{{- if .Values.api.url }}{{ .Values.api.url }}{{ else if .Values.server.enabled -}}
http://{{ include "simopt.name" . }}-server.{{ .Release.Namespace }}.svc:4200/api
{{- else }}{{ fail "name a Prefect server in api.url, or let the chart start one with server.enabled=true" }}{{ end }}
{{- end }}

{{/* How a client of the server is told of it. A worker hands every PREFECT_ variable on to its pods, so it gets no others. */}}
{{- define "simopt.apiEnvironment" -}}
- name: PREFECT_API_URL
  value: {{ include "simopt.apiUrl" . | quote }}
{{- with .Values.api.keySecret }}{{ if .name }}
- name: PREFECT_API_KEY
  valueFrom: {secretKeyRef: {name: {{ .name | quote }}, key: {{ .key | quote }}}}
{{- end }}{{ end }}
{{- with .Values.api.authStringSecret }}{{ if .name }}
- name: PREFECT_API_AUTH_STRING
  valueFrom: {secretKeyRef: {name: {{ .name | quote }}, key: {{ .key | quote }}}}
{{- end }}{{ end }}
{{- end }}

{{/* What every pod of ours says about where it runs and as whom. */}}
{{- define "simopt.podSpec" -}}
{{- with .Values.images.pullSecrets }}
imagePullSecrets: {{ range . }}
  - name: {{ . | quote }}{{ end }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{ toJson . }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{ toJson . }}
{{- end }}
{{- end }}

{{- define "simopt.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "simopt.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* The pool's base job template, with the defaults that the values give. */}}
{{- define "simopt.jobTemplate" -}}
{{- $template := .Files.Get "files/base-job-template.json" | fromJson -}}
{{- $ours := dict "namespace" .Release.Namespace "image" (include "simopt.podImage" .) "image_pull_policy" .Values.images.pullPolicy "service_account_name" (printf "%s-pod" (include "simopt.name" .)) -}}
{{- if .Values.images.pullSecrets -}}
{{- $secrets := list -}}
{{- range .Values.images.pullSecrets }}{{ $secrets = append $secrets (dict "name" .) }}{{ end -}}
{{- $_ := set $ours "image_pull_secrets" $secrets -}}
{{- end -}}
{{- $known := $template.variables.properties -}}
{{- range $name, $value := merge (deepCopy .Values.pool.defaults) $ours -}}
{{- if not (hasKey $known $name) -}}
{{- fail (printf "pool.defaults.%s: the base job template has no such variable; it has: %s" $name (keys $known | sortAlpha | join ", ")) -}}
{{- end -}}
{{- $_ := set (index $known $name) "default" $value -}}
{{- end -}}
{{- toPrettyJson $template -}}
{{- end }}
