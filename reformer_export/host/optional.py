"""Imports optional packages when they are needed; the error says how to install a missing one."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from types import ModuleType

from reformer_export.errors import MissingDependencyError


def require(module: str, *, purpose: str, package: str | None = None) -> ModuleType:
    """Import `module`, which `purpose` ("reading tokenizer.json") needs.

    `package` is the name for pip, if it differs from the module's first name; an extra of this
    project ("reformer-export[gpu]") is allowed. Raises MissingDependencyError if the module is not
    installed, or is installed but fails to load; the message distinguishes the two.
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
    """True if a module is installed. The module is not imported."""
    return importlib.util.find_spec(module) is not None


def installed_version(package: str) -> str | None:
    """The version of a distribution, without importing it; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def installed_versions(*packages: str) -> dict[str, str]:
    """The versions of the given distributions; those that are not installed are left out."""
    return {name: version for name in packages if (version := installed_version(name))}


def _quoted(package: str) -> str:
    """The package, in quotes if it has square brackets, which are special in a shell."""
    return f'"{package}"' if "[" in package else package
