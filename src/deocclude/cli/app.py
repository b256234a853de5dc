"""The `deocclude` command: its verbs and exit codes, without heavy imports.

A verb is one row of `VERBS` and one module `deocclude.cli.<verb>`, imported when the verb is called: `deocclude --help`
loads no numpy, ONNX Runtime or torch. The module exposes one name:

    app     either a plain function with typer annotations (its docstring is the verb's help), or a `typer.Typer`
    holding subcommands (`deocclude data convert`, `deocclude train mask`)

Beside a function, `HELP` replaces its docstring as the help.

A verb raises `DeoccludeError` (or a subclass) with a one-line message, which goes to stderr; the error's `exit_code`
becomes the process's. A missing package becomes a `MissingExtraError` naming the extra that installs it.
"""

from __future__ import annotations

import importlib
import io
import os
import shlex
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from deocclude._version import __version__
from deocclude.cli.options import is_verbose, with_common_options

if TYPE_CHECKING:
    from deocclude.errors import DeoccludeError

EXIT_INTERRUPTED = 130  # exit code after Ctrl-C: 128 + SIGINT

VERBS: dict[str, str] = {
    "run": "Recover the hidden part of people in photos.",
    "demo": "Hide part of a bundled photo, recover it, and score that.",
    "models": "List the bundled models, show one, or convert other weights.",
    "serve": "Answer other programs over HTTP, with a page in the browser.",
    "train": "Train stage 1, its prompted head, stage 2 or the detector.",
    "data": "Build training and evaluation sets; convert, check, show.",
    "eval": "Measure a model on an evaluation set, beside its baselines.",
    "ablate": "Train and measure ablations and baselines, in one table.",
    "export": "Turn a training checkpoint into the files that `run` loads.",
    "quantize": "Make exported networks int8: twice as fast on a CPU.",
    "calibrate": "Fit the probabilities of hidden regions and hidden people.",
    "bench": "Time the networks against the paper-size networks, and `run`.",
    "doctor": "Check versions, device, weights and optional packages.",
}
"""Verb: its line in `deocclude --help`."""

# Suffixes of most photos; `io.images.photo_suffixes` knows all, but loads every image plugin.
PHOTO_SUFFIXES = frozenset({".avif", ".bmp", ".gif", ".heic", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})

EXTRA_OF = {
    "accelerate": "train",
    "cv2": "data",
    "datasets": "data",
    "fastapi": "serve",
    "fsspec": "data",
    "httpx": "serve",
    "huggingface_hub": "train",
    "onnx": "train",
    "onnxscript": "train",
    "pillow_heif": "heif",
    "prometheus_client": "serve",
    "pydantic": "data",
    "python_multipart": "serve",
    "ray": "scale",
    "s3fs": "scale",
    "safetensors": "train",
    "scipy": "data",
    "skimage": "train",
    "sklearn": "train",
    "tensorboard": "train",
    "torch": "train",
    "transformers": "segment",
    "uvicorn": "serve",
    "yaml": "train",
}
"""Optional top-level package: the extra that installs it."""


class LazyVerb(TyperCommand):
    """A verb that knows its one-line help; its module is imported when it is called."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Import the verb's module and hand over to its own command."""
        module = importlib.import_module(f"deocclude.cli.{self.name}")
        return _as_command(module.app, str(self.name), getattr(module, "HELP", None)).make_context(
            info_name, args, parent=parent, **extra
        )


class VerbGroup(TyperGroup):
    """The verbs in the order of `VERBS`; errors become exit codes here and nowhere else."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The verbs in the order of the help."""
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A verb, without importing its module."""
        if cmd_name not in VERBS:
            return None
        return LazyVerb(name=cmd_name, help=VERBS[cmd_name], add_help_option=False)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The verb of the arguments; an unknown one fails with a suggestion."""
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], VERBS, n=1)
            if _is_photo(args[0], has_near_verb=bool(near)):
                from deocclude.errors import UsageError

                raise UsageError(f"no verb {args[0]!r}: did you mean `{shlex.join(['deocclude', 'run', *args])}`?")
            hint = f"did you mean {near[0]!r}?" if near else f"the verbs are: {', '.join(VERBS)}"
            ctx.fail(f"no verb {args[0]!r}: {hint}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run a verb and turn its errors into exit codes."""
        from deocclude.errors import DeoccludeError, MissingExtraError

        try:
            _unwind_on_signals()
            return super().invoke(ctx)
        except DeoccludeError as error:
            fail(error, with_traceback=is_verbose(ctx))
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package not in EXTRA_OF:
                raise
            missing = MissingExtraError(
                f"`deocclude {ctx.invoked_subcommand}` needs {package}, which", EXTRA_OF[package]
            )
            fail(missing, with_traceback=is_verbose(ctx))
        except BrokenPipeError:
            raise  # `main` exits quietly
        except OSError as error:
            # a full disk or an unwritable folder that no other code reported
            name = f"{error.filename}: " if error.filename else ""
            fail(DeoccludeError(f"{name}{error.strerror or error}"), with_traceback=is_verbose(ctx))
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)
            raise typer.Exit(EXIT_INTERRUPTED) from None


def _is_photo(name: str, *, has_near_verb: bool) -> bool:
    """Whether an argument is a photo or a folder of photos, by its suffix or as an existing file or folder."""
    if os.path.splitext(name)[1].lower() in PHOTO_SUFFIXES or os.path.isfile(name):
        return True
    return os.path.isdir(name) and not has_near_verb


def _unwind_on_signals() -> None:
    """From here on, SIGINT and SIGTERM raise KeyboardInterrupt, so that temporary files are removed.

    Replaces only the handlers of `deocclude.__main__`, and none of another program that calls `app`.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        if getattr(signal.getsignal(number), "__name__", "") == "leave_at_once":
            signal.signal(number, signal.default_int_handler)


def fail(error: DeoccludeError, *, with_traceback: bool = False) -> None:
    """Print an error as one line on stderr and exit with its exit code.

    with_traceback: print the traceback of the exception that is being handled before it.
    """
    if with_traceback:
        import traceback

        typer.echo(traceback.format_exc(), err=True, nl=False)
    typer.echo(f"error: {' '.join(str(error).split())}", err=True)
    raise typer.Exit(error.exit_code) from None


def _as_command(verb_app: typer.Typer | Callable[..., Any], name: str, text: str | None = None) -> Any:
    """A verb's function or Typer as a click command, with the options that every command has.

    text: the help of a function; None: its docstring.
    """
    if not isinstance(verb_app, typer.Typer):
        function, verb_app = verb_app, typer.Typer(add_completion=False, rich_markup_mode=None)
        verb_app.command(name=name, help=text)(function)
    return with_common_options(typer.main.get_command(verb_app))


app = typer.Typer(
    cls=VerbGroup, add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False
)


def _print_version(is_given: bool) -> None:
    """Answer --version."""
    if is_given:
        typer.echo(f"deocclude {__version__}")
        raise typer.Exit()


@app.callback()
def deocclude(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Human de-occlusion: a photo goes in, every partly hidden person comes out whole.

    Exit codes: 0 done, 1 error, 2 usage or bad config, 3 weights, 4 device or missing extra, 5 some inputs failed,
    130 interrupted.
    """


def main() -> None:
    """Run the command line. Until a verb begins, the handlers of `deocclude.__main__` answer signals."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a closed stream is None
            stream.reconfigure(errors="backslashreplace")  # the terminal may not support every file name
    try:
        app(prog_name="deocclude")
    except BrokenPipeError:
        # The reader of stdout has exited (`| head`): exit quietly, and prevent an error when Python flushes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
