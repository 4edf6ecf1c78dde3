# SPDX-License-Identifier: Apache-2.0
"""One start of a training run: an engine, a recorder, an architecture's `run`, and an orderly end however it ends."""

from types import ModuleType
from typing import Any

from shoal.architectures.assemble import preloads, segment_seed
from shoal.architectures.base import Parts
from shoal.engines import Engine, LearnerLost, Lost, make_engine
from shoal.envs import EnvFactory
from shoal.errors import ShoalError
from shoal.learners.base import LearnerState
from shoal.records.flow import FlowRecord
from shoal.records.metrics import read_rows
from shoal.records.run_dir import RunDir
from shoal.records.segments import segment_end
from shoal.training.recorder import Recorder
from shoal.training.result import Result
from shoal.training.signals import SignalWatch


class Session:
    """Everything one start of a run holds together."""

    def __init__(  # noqa: PLR0913 it is made in two places
        self, run: RunDir, module: ModuleType, config: Any, factory: EnvFactory, settings: dict[str, Any], cluster: Any
    ):
        self.run, self.module, self.config, self.factory, self.settings = run, module, config, factory, settings
        self.cluster = cluster
        self.architecture = module.__name__.rpartition(".")[2]

    def train(self, recorder: Recorder, parts: Parts, state: LearnerState) -> Result:
        """Train from `state` to config.env_steps or until something stops it; saves and reports in either case.

        In `order=fixed` training is a chain of segments, each from a checkpoint, with environments started anew from
        (seed, env_steps): a resumed run then continues exactly as the uninterrupted one did.
        """
        exit_code = 0
        try:
            while state.env_steps < self.config.env_steps:
                end = self._segment_end(state.env_steps)
                engine = make_engine(self.settings["engine"], order=self.settings["order"], cluster=self.cluster)
                flow = FlowRecord(self.run.flow_path, self.architecture, state.env_steps)
                engine.hang_seconds = self.settings["hang_seconds"]
                engine.preload = preloads(parts.agent, self.module, self.config)
                recorder.attach(engine, flow, state, until=end)
                seed = segment_seed(self.config, state.env_steps)
                parts = parts._replace(seed=seed, replay_folder=str(self.run.replay_path))
                with SignalWatch(engine.stop, recorder.close) as watch:
                    self._run(engine, parts, state, recorder)
                    recorder.finish()
                state, exit_code = recorder.state, watch.exit_code
                if recorder.stop_reason or exit_code:
                    break
        except Exception as fault:
            self._save_after(fault, recorder)
            raise
        finally:
            recorder.close()
        return self._result(parts, state, recorder.stop_reason, exit_code)

    def _run(self, engine: Engine, parts: Parts, state: LearnerState, recorder: Recorder) -> None:
        """The architecture's program; a learner that is lost after the engine was asked to stop is not missed."""
        try:
            engine.run(self.module.run, self.config, parts, state, recorder.visit)
        except LearnerLost:
            if engine.stop_reason is None:
                raise

    def _segment_end(self, env_steps: int) -> int:
        """Where a segment from here on ends: at the next quarter of the run in order=fixed, else at the run's end."""
        total = self.config.env_steps
        return segment_end(total, env_steps) if self.settings["order"] == "fixed" else total

    def _save_after(self, fault: Exception, recorder: Recorder) -> None:
        """The last state, unless going on from the checkpoint before is exact, and what failed was not the program."""
        if not isinstance(fault, LearnerLost):  # whether the run is over then is for others to say
            self.run.log(f"stopped by {type(fault).__name__}: {fault}")
        exact = self.settings["order"] == "fixed" and isinstance(fault.__cause__, Lost)
        try:
            recorder.finish(save=not exact)
        except ShoalError as second:
            self.run.log(f"the last state could not be saved: {second}")

    def _result(self, parts: Parts, state: LearnerState, stop_reason: str | None, exit_code: int) -> Result:
        return Result(
            run_dir=self.run.path,
            metrics=read_rows(self.run.metrics_path),
            config=self.config,
            state=state,
            agent=parts.agent,
            factory=self.factory,
            stop_reason=stop_reason,
            exit_code=exit_code,
        )
