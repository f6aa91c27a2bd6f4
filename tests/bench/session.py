"""What takes part in a run, and bringing it up and down."""

import filecmp
import os
import shutil
import subprocess
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from forebay.build.decoders import source
from forebay.contract.errors import ArtifactError
from forebay.contract.model import ModelSpec
from forebay.runtime import catalog
from forebay.storage.artifacts import ArtifactStore
from tests.bench import bare, environments, forebay_server, guarded, peer, redis_server
from tests.bench.check import check
from tests.bench.forebay_server import EXTRA, ForebayServer, ForwardPasses
from tests.bench.generation import contenders
from tests.bench.generation.subject import open_subject
from tests.bench.loads import LOADS, Contender, HttpContender, Load, Section, Workload
from tests.bench.processes import Process, StartError
from tests.fixtures.catalogs import steady_catalog

MODEL = "minilm"


class Folders(msgspec.Struct, frozen=True):
    """Where a run reads and writes.

    Attributes:
        root: the repository.
        home: Forebay's home folder, which has the built models.
        output: everything the run leaves behind, logs included.
        peers: the peers' virtual environment.
    """

    root: Path
    home: Path
    output: Path
    peers: Path


class Choice(msgspec.Struct, frozen=True):
    """What takes part.

    Attributes:
        only: contenders, workloads and loads by name; `mosec` stands for every `mosec-…`. Of
            each kind that none is named of, all take part.
        quick: leave out what is extra, unless it is named in full.
    """

    only: tuple[str, ...] = ()
    quick: bool = False

    def has_contender(self, name: str, *, extra: bool) -> bool:
        """Whether this contender takes part."""
        named = [only for only in self.only if only not in _LOAD_NAMES]
        if named and not any(name == only or name.startswith(f"{only}-") for only in named):
            return False
        asked = any(load.name in self.only and name in (load.among or ()) for load in LOADS)
        return asked or name in named or not (extra and self.quick)

    def has_forebay(self) -> bool:
        """Whether Forebay takes part, asked in one way or another."""
        return any(self.has_contender(name, extra=extra) for name, extra in EXTRA.items())

    def loads(self) -> list[Load]:
        """The loads of the run, in order.

        With an open loop comes the closed one whose throughput it is a share of.
        """
        named = [only for only in self.only if only in _LOAD_NAMES]
        named += [
            of.name
            for load in LOADS
            if load.name in named and load.open_share is not None
            for of in LOADS
            if of.workload is load.workload and of.open_share == 1
        ]
        return [
            load
            for load in LOADS
            if (not named or not {load.name, load.workload, load.section}.isdisjoint(named))
            and (load.name in named or not (load.extra and self.quick))
        ]

    def sections(self) -> list[Section]:
        """Sections of the run that are no loads, in order."""
        alone = [section for section in Section if not any(s.section is section for s in LOADS)]
        if self.only:
            return [section for section in alone if section in self.only]
        return [] if self.quick else alone

    def whole(self) -> list[Section]:
        """Sections that are run in full, so that their results may be kept."""
        if self.quick or not set(self.only) <= set(Section):
            return []
        return [section for section in Section if not self.only or section in self.only]

    def unknown(self, contenders: Sequence[str]) -> list[str]:
        """Names that stand for nothing."""
        return [
            only
            for only in self.only
            if only not in _LOAD_NAMES
            and not any(name == only or name.startswith(f"{only}-") for name in contenders)
        ]


_LOAD_NAMES = frozenset(
    {*(w.value for w in Workload), *(s.value for s in Section), *(load.name for load in LOADS)}
)

TOGETHER = (
    (Section.CLOSED, Section.OPEN, Section.GROWTH),
    (Section.REPEATED,),
    (Section.GENERATION,),
)
"""Sections whose loads are put on the same running systems."""


class Session(msgspec.Struct, frozen=True):
    """A run's contenders, up and checked.

    Attributes:
        contenders: in the order in which each round takes them.
        forebay: the running Forebay, if it takes part.
        passes: how Forebay's worker runs the model, if it takes part.
        redis_url: Forebay's Redis, if it takes part and tells.
        programs: by contender, what runs for it.
        pausing: contenders that are to be stopped but in their turn.
    """

    contenders: list[Contender]
    forebay: ForebayServer | None
    passes: ForwardPasses | None
    redis_url: str | None
    programs: dict[str, list[Process]]
    pausing: list[str]


def contender_names() -> list[str]:
    """Every contender there is."""
    bares = [f"bare-{loop.name}" for loop in bare.LOOPS]
    writing = [contenders.BARE, contenders.STATIC]
    return [*EXTRA, *bares, *writing, *(found.name for found in peer.find())]


def find_artifact(folders: Folders, model: str = MODEL, *, tell: Callable[[str], None]) -> Path:
    """Folder of a built model; builds it if need be.

    Raises:
        StartError: it can't be built.
    """
    store = ArtifactStore(folders.home)
    try:
        return store.current(model)
    except ArtifactError:
        tell(f"Building the model {model}, which is done once …")
    env = {**os.environ, "FOREBAY_HOME": str(folders.home)}
    command = [str(forebay_server.program()), "models", "build", model]
    try:
        subprocess.run(command, env=env, cwd=folders.root, check=True)
        return store.current(model)
    except (OSError, subprocess.CalledProcessError, ArtifactError) as error:
        raise StartError(f"The model {model} can't be built: {error}") from error


@contextmanager
def started(
    choice: Choice,
    folders: Folders,
    loads: Sequence[Load],
    *,
    artifact: Path,
    spec: ModelSpec,
    threads: int,
    bodies: Path,
    tell: Callable[[str], None],
) -> Iterator[Session]:
    """Start all that takes part, check that all embed alike, and end it all afterwards.

    Args:
        loads: those of sections that go together; who takes none of them is not started.
        artifact: folder of the built model.
        spec: the model; everybody gets its limit of rows in a batch.
        threads: threads of one forward pass, for everybody but Forebay, which has its own way.
        bodies: folder for request bodies.

    Raises:
        StartError: something does not come up, or Forebay would run another artifact.
        WrongAnswerError: a contender gives another embedding than the bare model.
    """
    logs = folders.output / "logs"
    workloads = {load.workload for load in loads}
    programs: dict[str, list[Process]] = {}
    tokenizer = artifact / "tokenizer.json"
    with ExitStack() as stack:
        ours: list[HttpContender] = []
        forebay, passes, redis_url, models = None, None, None, None
        if choice.has_forebay():
            _expect_same(find_artifact(folders, tell=tell), artifact)
            passes = forebay_server.forward_passes(spec, folders.home)
            if Workload.SMOLLM2 in workloads:
                find_artifact(folders, contenders.MODEL, tell=tell)
                models = steady_catalog(bodies)
            if any(load.section is Section.REPEATED for load in loads):
                models = forebay_server.cached_catalog(bodies)
            tell("Starting Forebay …")
            home = folders.output / "home"
            # Not with what runs before this have left: predictions that are kept for a day.
            shutil.rmtree(home, ignore_errors=True)
            forebay = ForebayServer(
                folders.root,
                home=home,
                artifacts=folders.home / "artifacts",
                log=logs / "forebay.log",
                models=models,
                env={**guarded.ON, **guarded.traced(stack.enter_context(guarded.collector()))},
            )
            stack.callback(forebay.stop)
            forebay.wait_until_ready()
            forebay.ask_for_keys()
            redis_url = forebay.redis_url()
            ours = [c for c in forebay_server.contenders(forebay) if any(map(c.takes, loads))]
            programs = {contender.name: [forebay.program] for contender in ours}
        peers = [
            p
            for p in peer.find()
            if choice.has_contender(p.name, extra=p.extra)
            and any(load.workload in p.apps and load.is_for(p.name) for load in loads)
        ]
        theirs: list[HttpContender] = []
        if peers:
            peers_redis = stack.enter_context(
                redis_server.serve(folder=folders.output / "redis", log=logs / "redis.log")
            )
            weights = _weights(folders, workloads, spec, bodies)
            settings = peer.PeerSettings(
                artifact, tokenizer, threads, spec.batch.max_rows, peers_redis, weights
            )
            for each in peers:
                found = environments.prepare(folders.peers, each.environment, tell=tell)
                tell(f"Starting {each.title} …")
                contender, programs[each.name] = peer.start(
                    each, settings, workloads, bin_folder=found, logs=logs, stack=stack
                )
                theirs.append(contender)
                # Some take a core while nobody asks them anything, and others would not come up.
                for program in programs[each.name]:
                    program.pause()
        bares: list[bare.BareLoop] = []
        if Workload.MINILM in workloads:
            process = bare.BareProcess(
                artifact / "model.onnx", tokenizer, threads=threads, root=folders.root,
                log=logs / "bare.log",
            )  # fmt: skip
            stack.callback(process.stop)
            bares = [bare.BareLoop(loop, process) for loop in bare.LOOPS]
            tell("Comparing everybody's embeddings with the bare model's …")
            paused = {each.name: programs[each.name] for each in peers}
            check(
                [*ours, *theirs], process, bodies, awake=lambda name: _awake(paused.get(name, ()))
            )
        writing: list[Contender] = []
        if Workload.SMOLLM2 in workloads:
            writing = _writing(choice, folders, forebay, bodies, tell=tell)
        # Beside Forebay stands what it is compared with most closely.
        ordered: list[Contender] = [*ours[:1], *bares, *theirs, *ours[1:], *writing]
        taking_part = [c for c in ordered if choice.has_contender(c.name, extra=c.extra)]
        pausing = [each.name for each in peers]
        yield Session(taking_part, forebay, passes, redis_url, programs, pausing)


@contextmanager
def _awake(programs: Sequence[Process]) -> Iterator[None]:
    """Let programs go on until the block ends."""
    for program in reversed(programs):
        program.resume()
    try:
        yield
    finally:
        for program in programs:
            program.pause()


def _writing(
    choice: Choice,
    folders: Folders,
    forebay: ForebayServer | None,
    work: Path,
    *,
    tell: Callable[[str], None],
) -> list[Contender]:
    """Who generates text: Forebay if it takes part, the bare loop, and transformers."""
    find_artifact(folders, contenders.MODEL, tell=tell)
    spec = catalog.read(folders.root / "models.toml").find(contenders.MODEL)
    subject = open_subject(spec, folders.home)
    found: list[Contender] = (
        [] if forebay is None else [contenders.ForebayTexts(forebay.port, forebay.key)]
    )
    tell(f"Loading {contenders.MODEL} into its bare loops …")
    if choice.has_contender(contenders.BARE, extra=False):
        found.append(contenders.bare(subject))
    if choice.has_contender(contenders.STATIC, extra=False):
        found.append(contenders.static(subject, source.find(spec, work).folder))
    return found


def _weights(
    folders: Folders, workloads: Collection[Workload], spec: ModelSpec, work: Path
) -> dict[Workload, Path]:
    """What the artifacts were made of, for peers that run something else."""
    found = {Workload.MINILM: source.plain(spec, work).folder}
    if Workload.SMOLLM2 in workloads:
        writing = catalog.read(folders.root / "models.toml").find(contenders.MODEL)
        found[Workload.SMOLLM2] = source.plain(writing, work / contenders.MODEL).folder
    return found


def _expect_same(ours: Path, theirs: Path) -> None:
    """Nobody is compared with another artifact's speed."""
    if not filecmp.cmp(ours / "model.onnx", theirs / "model.onnx", shallow=False):
        raise StartError(
            f"Forebay runs the artifact {ours.name[:12]}, which is not that of {theirs}: leave "
            "--artifact out, or Forebay, with --only."
        )
