"""Resource limits of the process, raised as far as permitted."""

import resource

import structlog

log = structlog.get_logger()


def raise_descriptor_limit() -> None:
    """Raise the soft limit on open files to the hard limit; each connection needs a descriptor."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:
        log.warning("descriptor_limit_not_raised", limit=soft, error=str(error))
