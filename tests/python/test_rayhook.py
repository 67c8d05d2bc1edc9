"""`ray` served from Trireme: identical objects, errors that name what is missing, workers that resolve `ray` too."""

# ctest: one rank

import os
import pickle
import subprocess
import sys
import textwrap

import pytest

import trireme
from trireme import _rayhook


@pytest.fixture(scope="module", autouse=True)
def hook():
    variables = (_rayhook.VARIABLE, "TRIREME_WAIT_FOR_RESOURCES")
    before = {name: os.environ.get(name) for name in variables}
    _rayhook.install()
    yield
    sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__module__ != "trireme._rayhook.finder"]
    for name in [name for name in sys.modules if name == "ray" or name.startswith("ray.")]:
        del sys.modules[name]
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)


def test_modules_and_their_objects_are_identical():
    import ray
    import ray.exceptions
    import ray.util.queue
    from ray.util import ActorPool
    from ray.util.placement_group import placement_group

    assert ray.get is trireme.get
    assert ray.remote is trireme.remote
    assert ray.util is trireme.util
    assert ray.util.queue is trireme.util.queue
    assert ray.exceptions.RayError is trireme.exceptions.RayError
    assert ActorPool is trireme.util.ActorPool
    assert placement_group is trireme.util.placement_group


def test_modules_keep_their_own_specs():
    import ray.util.queue  # noqa: F401

    assert trireme.util.queue.__spec__.name == "trireme.util.queue"
    assert trireme.util.__spec__.name == "trireme.util"
    assert trireme.util.queue.__name__ == "trireme.util.queue"


def test_names_that_have_another_place_here():
    import ray
    import ray.cloudpickle as pickle_of_ray
    from ray.actor import ActorHandle
    from ray.runtime_env import RuntimeEnv
    from ray.util.metrics import Counter

    assert ActorHandle.__name__ == "ActorHandle"
    assert RuntimeEnv(env_vars={"A": "1"})["env_vars"] == {"A": "1"}
    assert Counter is trireme.util.metrics.Counter
    assert pickle_of_ray.loads(pickle_of_ray.dumps(lambda: 3))() == 3
    assert tuple(int(part) for part in ray.__version__.split(".")) >= (2, 0)


@pytest.mark.parametrize(
    "name",
    "_raylet air air.config air.session cloudpickle cluster_utils experimental.tqdm_ray job_config runtime_context runtime_env "
    "train train.torch tune tune.context tune.logger.csv tune.logger.json tune.logger.tensorboardx tune.syncer "
    "util.accelerators util.annotations tune.schedulers tune.search util.joblib util.metrics util.multiprocessing "
    "util.scheduling_strategies util.state".split(),
)
def test_modules_that_programs_import(name):
    import importlib

    module = importlib.import_module(f"ray.{name}")
    assert module.__name__.startswith("trireme.")
    assert module is sys.modules[module.__name__]
    if name == "air":
        assert module.ScalingConfig is trireme.train.ScalingConfig


def test_a_missing_module_is_named():
    with pytest.raises(ModuleNotFoundError, match="No module named 'ray.no_such_part'"):
        import ray.no_such_part  # noqa: F401
    with pytest.raises(ModuleNotFoundError, match="ray.util.no_such_part"):
        import ray.util.no_such_part  # noqa: F401
    with pytest.raises(ModuleNotFoundError, match="ray._private"):
        import ray._private.services  # noqa: F401


def test_a_missing_name_is_named():
    import ray

    with pytest.raises(AttributeError, match="'ray' has no attribute 'no_such_name'"):
        getattr(ray, "no_such_" + "name")
    with pytest.raises(ImportError, match="no_such_name"):
        from ray import no_such_name  # noqa: F401
    with pytest.raises(ImportError, match="NoSuchClass"):
        from ray.util import NoSuchClass  # noqa: F401
    assert not hasattr(ray, "no_such_name")


def test_pickles_that_name_ray_load():
    data = b"cray.util.queue\nEmpty\n."  # protocol 0: the global ray.util.queue.Empty
    assert pickle.loads(data) is trireme.util.queue.Empty


def test_installing_twice_is_installing_once():
    _rayhook.install()
    assert sum(type(finder).__module__ == "trireme._rayhook.finder" for finder in sys.meta_path) == 1


def test_a_ray_that_is_there_already_is_refused(tmp_path):
    (tmp_path / "ray.py").write_text("")
    code = "import ray, trireme._rayhook as h\ntry:\n    h.install()\nexcept RuntimeError as e:\n    print(e)"
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=True)
    assert "ray was imported from" in done.stdout


PROGRAM = """
    import ray
    from ray.util.queue import Queue

    @ray.remote
    def name_of(cls):
        import ray.util.queue
        return cls is ray.util.queue.Queue, ray.__name__, ray.util.__name__

    @ray.remote
    def nested(boxed):
        return ray.get(boxed[0]) + ray.get(ray.put(1))

    @ray.remote
    class Counter:
        def __init__(self):
            self.n = 0

        def add(self):
            self.n += 1
            return self.n

    ray.init()
    print(ray.get(name_of.remote(Queue)))
    print(ray.get(nested.remote([ray.put(41)])))
    counter = Counter.remote()
    print(ray.get([counter.add.remote() for _ in range(3)]))
    ray.shutdown()
"""


def run_program(tmp_path, text, *options, timeout=120, env=None):
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(text))
    variables = {**os.environ, **(env or {})}
    variables.pop(_rayhook.VARIABLE, None)
    command = [sys.executable, "-m", "trireme", "run", *options, str(path)]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=timeout, check=False)


def test_an_unmodified_program_runs(tmp_path):
    done = run_program(tmp_path, PROGRAM, "--ray")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["(True, 'ray', 'trireme.util')", "42", "[1, 2, 3]"]


def test_without_the_option_there_is_no_ray(tmp_path):
    pytest.importorskip("numpy")
    try:
        import importlib.metadata

        importlib.metadata.version("ray")
        pytest.skip("Ray itself is installed")
    except importlib.metadata.PackageNotFoundError:
        pass
    done = run_program(tmp_path, "import ray")
    assert done.returncode != 0
    assert "No module named 'ray'" in done.stderr


def test_what_can_never_be_placed_waits_with_a_warning(tmp_path):
    program = """
        import ray

        @ray.remote(resources={"unobtainium": 1})
        def never():
            return 1

        ray.init()
        ref = never.remote()
        try:
            ray.get(ref, timeout=2)
        except ray.exceptions.GetTimeoutError:
            print("waits")
        ready, waiting = ray.wait([ref], timeout=0.1)
        print(len(ready), len(waiting))
    """
    done = run_program(tmp_path, program, "--ray")
    assert done.stdout.splitlines() == ["waits", "0 1"], done.stderr
    assert "unobtainium" in done.stderr


AIR = """
    import ray
    from ray.air import ScalingConfig, session
    import ray.air.session as same
    from ray import train, tune

    assert session is same
    ray.init(num_cpus=2)


    def work():
        session.report({"rank": session.get_world_rank(), "size": session.get_world_size(), "trial": session.get_trial_name()})


    def trial(config):
        session.report({"twice": 2 * config["x"], "size": session.get_world_size()})


    result = train.DataParallelTrainer(work, scaling_config=ScalingConfig(num_workers=1)).fit()
    print(result.metrics["rank"], result.metrics["size"])
    results = tune.Tuner(trial, param_space={"x": tune.grid_search([1, 2])}).fit()
    print(sorted(r.metrics["twice"] for r in results), results[0].metrics["size"])
    try:
        session.report({})
    except RuntimeError as error:
        print("neither" in str(error))
"""


def test_air_session_is_that_of_the_trainer_or_of_the_trial(tmp_path):
    done = run_program(tmp_path, AIR, "--ray", env={"HOME": str(tmp_path)})
    wanted = ["0 1", "[2, 4] 1", "True"]
    assert [line for line in done.stdout.splitlines() if line in wanted] == wanted, done.stderr


def test_a_placement_group_that_can_never_be_placed_waits_too(tmp_path):
    program = """
        import ray
        from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        ray.init()
        group = placement_group([{"unobtainium": 1}])
        print(group.wait(0.2), placement_group_table(group)["state"])

        @ray.remote(num_cpus=0, scheduling_strategy=PlacementGroupSchedulingStrategy(group))
        def inside():
            return 1

        ref = inside.remote()
        print(len(ray.wait([ref], timeout=0.2)[0]))
        remove_placement_group(group)
        try:
            ray.get(ref, timeout=60)
        except ray.exceptions.GetTimeoutError:
            print("still waits")
        except ray.exceptions.RayError as error:
            print("removed" in str(error))
        print(placement_group_table(group)["state"])
    """
    done = run_program(tmp_path, program, "--ray")
    assert done.stdout.splitlines() == ["False PENDING", "0", "True", "REMOVED"], done.stderr
    assert "unobtainium" in done.stderr


def test_a_part_that_is_not_there_can_be_asked_about():
    import ray

    for module, where in ((trireme, "trireme"), (ray, "ray")):
        assert not hasattr(module, "data")
        with pytest.raises(AttributeError, match=f"module '{where}' has no attribute 'data'"):
            module.data.range(3)
    with pytest.raises(ModuleNotFoundError, match="ray.data"):
        import ray.data  # noqa: F401
