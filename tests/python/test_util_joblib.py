"""joblib and scikit-learn on the job's processes."""

import os

import pytest

joblib = pytest.importorskip("joblib")


@pytest.fixture(scope="module", autouse=True)
def registered(runtime):
    from trireme.util.joblib import register_ray, register_trireme

    register_trireme()
    register_ray()


def square(value):
    return value * value


@pytest.mark.parametrize("name", ["trireme", "ray"])
def test_parallel_calls(name):
    with joblib.parallel_backend(name, n_jobs=2):
        assert joblib.Parallel()(joblib.delayed(square)(i) for i in range(20)) == [i * i for i in range(20)]


def test_calls_run_in_other_processes():
    with joblib.parallel_backend("trireme", n_jobs=2):
        pids = joblib.Parallel()(joblib.delayed(os.getpid)() for _ in range(8))
    assert os.getpid() not in pids


def test_minus_one_means_every_cpu_of_the_job(runtime):
    with joblib.parallel_backend("trireme", n_jobs=-1):
        assert joblib.Parallel()._backend.effective_n_jobs(-1) == int(runtime.cluster_resources()["CPU"])
        assert joblib.Parallel()(joblib.delayed(square)(i) for i in range(4)) == [0, 1, 4, 9]


def test_errors_come_back():
    def fail():
        raise KeyError("lost")

    with joblib.parallel_backend("trireme", n_jobs=2), pytest.raises(KeyError, match="lost"):
        joblib.Parallel()(joblib.delayed(fail)() for _ in range(2))


def test_scikit_learn_searches():
    pytest.importorskip("sklearn")
    from sklearn.datasets import make_classification
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    x, y = make_classification(n_samples=80, n_features=4, random_state=0)
    search = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0, 10.0]}, cv=3)
    with joblib.parallel_backend("trireme", n_jobs=2):
        search.fit(x, y)
    assert search.best_params_["C"] in {0.1, 1.0, 10.0}
    assert search.best_score_ > 0.5
