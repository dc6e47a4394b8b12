"""``retrievalformer.v1.DeploymentService``: what this process serves."""

from typing import Any

from rf_protos.v1 import deployment_pb2
from rf_protos.v1.deployment_pb2 import GetDeploymentRequest, GetDeploymentResponse, ServedBundle
from rf_protos.v1.deployment_pb2 import ShadowReport as ShadowMessage
from rf_protos.v1.deployment_pb2_grpc import DeploymentServiceServicer, add_DeploymentServiceServicer_to_server
from rf_serving.deployment.deployments import Deployments
from rf_serving.deployment.loader import Loaded
from rf_serving.deployment.shadow import Shadow
from rf_serving.server.rpc import Service, without_places


class DeploymentServicer(DeploymentServiceServicer):
    """Says what is served; errors are translated by the interceptor."""

    def __init__(self, deployments: Deployments) -> None:
        self._deployments = deployments

    async def GetDeployment(  # noqa: N802 (gRPC's name)
        self, request: GetDeploymentRequest, context: Any
    ) -> GetDeploymentResponse:
        """Return what is served now."""
        serving = self._deployments.serving
        challenger, shadow = serving.challenger, serving.shadow
        return GetDeploymentResponse(
            active=_bundle(serving.active),
            challenger=_bundle(challenger) if challenger is not None else None,
            split_percent=serving.percent,
            shadow=_bundle(shadow.loaded) if shadow is not None else None,
            shadow_report=_report(shadow) if shadow is not None else None,
            refused=without_places(serving.refused),
            swaps=serving.swaps,
            policy_version=serving.policy.version if serving.policy is not None else 0,
        )


def _bundle(loaded: Loaded) -> ServedBundle:
    snapshot = loaded.catalog.snapshot
    return ServedBundle(
        name=loaded.name,
        spec_hash=loaded.record.spec_hash,
        items=snapshot.alive,
        catalog_sequence=snapshot.sequence,
    )


def _report(shadow: Shadow) -> ShadowMessage:
    report = shadow.report()
    return ShadowMessage(
        requests=report.requests,
        failed=report.failed,
        overlap=report.overlap,
        active_ms=report.active_ms,
        shadow_ms=report.shadow_ms,
    )


def deployment_service(deployments: Deployments) -> Service:
    """Return the service."""
    return Service(
        descriptor=deployment_pb2.DESCRIPTOR.services_by_name["DeploymentService"],
        servicer=DeploymentServicer(deployments),
        add=add_DeploymentServiceServicer_to_server,
    )
