"""Logging in, as notebooks do it: nothing is asked, nothing is sent, secrets are not shown."""
import pytest

from azureml.core import Workspace
from azureml.core.authentication import (ArmTokenAuthentication, Audience, AzureCliAuthentication, InteractiveLoginAuthentication,
                                         MsiAuthentication, ServicePrincipalAuthentication, TokenAuthentication)
from azureml.telemetry import set_diagnostics_collection


def test_the_notebooks_cells(monkeypatch):
    monkeypatch.setattr("webbrowser.open", None)
    interactive_auth = InteractiveLoginAuthentication(tenant_id="my-tenant-id")
    forced = InteractiveLoginAuthentication(force=True, tenant_id="my-tenant-id")
    cli_auth = AzureCliAuthentication()
    msi_auth = MsiAuthentication()
    svc_pr = ServicePrincipalAuthentication(tenant_id="my-tenant-id", service_principal_id="my-application-id",
                                            service_principal_password="secret")
    for auth in (interactive_auth, forced, cli_auth, msi_auth, svc_pr, ArmTokenAuthentication("secret")):
        ws = Workspace(subscription_id="my-subscription-id", resource_group="my-ml-rg", workspace_name="my-ml-workspace", auth=auth)
        assert ws.name == "my-ml-workspace" and "secret" not in repr(auth) + repr(ws)
        assert list(auth.get_authentication_header()) == ["Authorization"]
        assert "secret" not in str(auth.get_authentication_header())
    assert (interactive_auth.force, forced.force, forced.tenant_id) == (False, True, "my-tenant-id")
    assert (svc_pr.service_principal_id, svc_pr.service_principal_password) == ("my-application-id", "secret")
    assert Workspace.from_config(auth=cli_auth).get_details()
    assert Workspace.get("mine", auth=svc_pr).name == "mine"


def test_a_password_that_is_not_set():
    assert ServicePrincipalAuthentication("t", "i", None).service_principal_password is None


def test_tokens_of_the_users_own():
    asked = []

    def get_token_for_audience(audience):
        asked.append(audience)
        return "token of " + audience.name

    token_auth = TokenAuthentication(get_token_for_audience=get_token_for_audience)
    token_auth.get_authentication_header()
    assert asked == []
    assert token_auth.get_token(Audience.aml) == "token of aml" and token_auth.get_token(Audience.arm) == "token of arm"
    arm = ArmTokenAuthentication("a")
    arm.update_arm_access_token("b")
    assert arm.arm_access_token == "b"


@pytest.mark.parametrize("arguments", [((), {"send_diagnostics": True}), ((False,), {}), ((), {})])
def test_telemetry(arguments):
    assert set_diagnostics_collection(*arguments[0], **arguments[1]) is None
