"""The operating system's limits of the process, raised as far as it may."""

import resource

import structlog

log = structlog.get_logger()


def raise_descriptor_limit() -> None:
    """Raise the soft limit of open files to the hard one; every connection needs a descriptor."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:
        log.warning("descriptor_limit_not_raised", limit=soft, error=str(error))
