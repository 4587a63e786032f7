"""Where studies live, and with which credentials they are reached."""

from typing import TYPE_CHECKING, Any

from pydantic import Field

from prefect_simopt.blocks.base import DOCUMENTATION, LOGO, Block
from prefect_simopt.errors import StoreError
from prefect_simopt.storage import StudyLocation

if TYPE_CHECKING:
    from prefect_simopt.study import Study

    Credentials = Any
else:
    try:
        from prefect_aws.credentials import AwsCredentials, MinIOCredentials
    except ImportError:  # the extra `aws` is not installed
        Credentials = None
    else:
        Credentials = MinIOCredentials | AwsCredentials

__all__ = ["StudyStore"]


class StudyStore(Block):
    """A folder or a bucket that holds studies, with the credentials to reach it.

    Example:
        Read the best trial of a study:
        ```python
        from prefect_simopt.blocks import StudyStore

        store = StudyStore.load("BLOCK_NAME")
        print(store.open("ar-coating").best)
        ```
    """

    _block_type_name = "Study Store"
    _logo_url = LOGO
    _documentation_url = DOCUMENTATION
    _description = "A folder or an S3 bucket that holds studies of prefect-simopt."

    url: str = Field(default="studies", min_length=1, description="Folder, or s3://bucket/prefix.")
    credentials: Credentials | None = Field(
        default=None,
        description="How an S3 bucket is reached; left out, by the machine's own role or environment.",
    )

    def location(self, name: str) -> StudyLocation:
        """Where the study of that name lives, credentials included.

        Raises:
            StoreError: the name is no name of a study, or there are no such credentials.
        """
        return StudyLocation(self.url, self.options()).child(name)

    def open(self, name: str) -> "Study":
        """The study of that name, to be read.

        Raises:
            StoreError: there is no such study, or the store cannot be reached.
        """
        from prefect_simopt.study import open_study

        location = self.location(name)
        return open_study(location.url, location.options)

    def options(self) -> dict[str, Any]:
        """Storage options for s3fs, secrets included: for the store alone, never for parameters or logs.

        Raises:
            StoreError: the credentials name a profile or a role that does not exist, or is refused.
        """
        if self.credentials is None or not self.url.startswith("s3://"):
            return {}
        from botocore.exceptions import BotoCoreError, ClientError

        parameters = self.credentials.aws_client_parameters
        client = {
            "region_name": self.credentials.region_name,
            "verify": parameters.verify_cert_path or parameters.verify,
        }
        options: dict[str, Any] = {
            "client_kwargs": {name: value for name, value in client.items() if value is not None}
        }
        if parameters.endpoint_url:
            options["endpoint_url"] = parameters.endpoint_url
        try:
            found = self.credentials.get_boto3_session().get_credentials()
            keys = None if found is None else found.get_frozen_credentials()
        except (BotoCoreError, ClientError) as error:
            raise StoreError(f"the credentials of the store {self.url} cannot be used: {error}") from None
        if keys is not None:
            options |= {"key": keys.access_key, "secret": keys.secret_key}
            if keys.token:
                options["token"] = keys.token
        return options
