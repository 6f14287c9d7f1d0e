"""Ways of logging in to the Azure cloud. Nobody logs in here: the constructors keep what they are given, and nothing is sent.

Who may use a Trainyard daemon is decided by the user that a process belongs to.
"""
from enum import Enum
from typing import Any, Callable, Dict, Optional

__all__ = [
    "AbstractAuthentication", "ArmTokenAuthentication", "Audience", "AzureCliAuthentication", "InteractiveLoginAuthentication",
    "MsiAuthentication", "ServicePrincipalAuthentication", "TokenAuthentication",
]

LOCAL_TOKEN = "local"


class Audience(Enum):
    """Whom a token is for."""

    arm = "ARM"
    aml = "AZUREML"


class AbstractAuthentication:
    """Base of all. ``Workspace(..., auth=...)`` takes any of them."""

    def get_authentication_header(self) -> Dict[str, str]:
        """A header of HTTP that opens no door."""
        return {"Authorization": "Bearer %s" % LOCAL_TOKEN}

    def get_token(self, *_: Any, **__: Any) -> str:
        """A token that opens no door."""
        return LOCAL_TOKEN

    def __repr__(self) -> str:
        return "%s()" % type(self).__name__


class InteractiveLoginAuthentication(AbstractAuthentication):
    """A login in the browser, which does not take place. force, tenant_id, cloud are kept."""

    def __init__(self, force: bool = False, tenant_id: Optional[str] = None, cloud: Optional[str] = None) -> None:
        self.force = force
        self.tenant_id = tenant_id
        self.cloud = cloud


class AzureCliAuthentication(AbstractAuthentication):
    """The login of the az program, which is not asked. cloud is kept."""

    def __init__(self, cloud: Optional[str] = None) -> None:
        self.cloud = cloud


class ServicePrincipalAuthentication(AbstractAuthentication):
    """An account of a program. tenant_id, service_principal_id, service_principal_password, cloud are kept, and sent nowhere."""

    def __init__(self, tenant_id: Optional[str], service_principal_id: Optional[str], service_principal_password: Optional[str],
                 cloud: str = "AzureCloud", _enable_caching: bool = True) -> None:
        self.tenant_id = tenant_id
        self.service_principal_id = service_principal_id
        self.service_principal_password = service_principal_password
        self.cloud = cloud


class MsiAuthentication(AbstractAuthentication):
    """The identity of a machine in the cloud. identity_config and cloud are kept."""

    def __init__(self, identity_config: Optional[Dict[str, str]] = None, cloud: Optional[str] = None) -> None:
        self.identity_config = identity_config
        self.cloud = cloud


class TokenAuthentication(AbstractAuthentication):
    """Tokens of a function of the user's. get_token_for_audience: a function of an Audience; only get_token() calls it."""

    def __init__(self, get_token_for_audience: Callable[[Any], str], cloud: str = "AzureCloud") -> None:
        self.get_token_for_audience = get_token_for_audience
        self.cloud = cloud

    def get_token(self, audience: Any = Audience.arm, *_: Any, **__: Any) -> str:
        """What the user's function gives for `audience`."""
        return self.get_token_for_audience(audience)


class ArmTokenAuthentication(AbstractAuthentication):
    """A token of the user's. It is kept, and sent nowhere."""

    def __init__(self, arm_access_token: str, cloud: str = "AzureCloud") -> None:
        self.arm_access_token = arm_access_token
        self.cloud = cloud

    def update_arm_access_token(self, new_arm_access_token: str) -> None:
        """Keep another token."""
        self.arm_access_token = new_arm_access_token
