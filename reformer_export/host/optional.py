"""Optional packages: import them where they are needed, or say how to get them."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from types import ModuleType

from reformer_export.errors import MissingDependencyError


def require(module: str, *, purpose: str, package: str | None = None) -> ModuleType:
    """Import `module`, which `purpose` needs ("reading tokenizer.json").

    `package` is what pip calls it, where that differs from the module's first name; an extra of
    ours ("reformer-export[gpu]") will do. Raises MissingDependencyError when the module is not
    installed, and also when it is but fails to load: a broken installation is not an absent one.
    """
    top = module.partition(".")[0]
    command = f"pip install {_quoted(package or top)}"
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = (error.name or top).partition(".")[0]
        if missing == top:
            message = f"{purpose} needs {top}, which is not installed: {command}"
        else:
            message = (
                f"{purpose} needs {top}, which needs {missing}, which is not installed: "
                f"pip install {missing}"
            )
        raise MissingDependencyError(message) from error
    except (ImportError, OSError) as error:  # OSError: a shared library that does not load
        reason = " ".join(str(error).split()) or type(error).__name__
        raise MissingDependencyError(
            f"{purpose} needs {top}, which is installed but does not load ({reason}): "
            f"{command} --force-reinstall"
        ) from error


def installed(module: str) -> bool:
    """True if a module is installed; it is not imported."""
    return importlib.util.find_spec(module) is not None


def installed_version(package: str) -> str | None:
    """The version of an installed distribution, without importing it; None when absent."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def installed_versions(*packages: str) -> dict[str, str]:
    """The versions of those of these distributions that are installed."""
    return {name: version for name in packages if (version := installed_version(name))}


def _quoted(package: str) -> str:
    """Square brackets have a meaning in a shell."""
    return f'"{package}"' if "[" in package else package
