"""The best model for scikit-learn's breast-cancer data, searched for in two ways.

    python hyperparameters.py [models]     # how many are tried at random; 60 if not said

`random_search` fits one model in each task: the table is put once and read by all, results are
shown as they come, and no model waits for another. `grid_search` is scikit-learn's own
`GridSearchCV`, whose `n_jobs` runs on the cluster since a `with` block says so.
"""

import sys
import time

import joblib
import manyhands as mh
import manyhands.joblib
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

GRID = {"max_depth": [2, 4, 8], "max_features": [2, 5], "n_estimators": [10, 30]}
# What the executors import before they are asked for anything.
PRELOAD = ["sklearn.ensemble", "sklearn.model_selection", "sklearn.svm"]


def candidates(models, seed=0):
    """Parameters to try: the same ones for the same seed."""
    random = np.random.default_rng(seed)
    return [
        {"C": float(10 ** random.uniform(-2, 3)), "gamma": float(10 ** random.uniform(-4, 0))}
        for _ in range(models)
    ]


def score(table, target, parameters):
    """How often a support vector machine with these parameters is right: five-fold, mean."""
    model = make_pipeline(StandardScaler(), SVC(**parameters))
    return float(cross_val_score(model, table, target, cv=5).mean())


def random_search(client, models=60, told=lambda parameters, score: None):
    """The scores of all candidates, by the cluster of `client`, one model in each task.

    `told` is called with each better one, as soon as it is known.
    """
    table, target = (client.put(part) for part in load_breast_cancer(return_X_y=True))
    tried = candidates(models)
    futures = [client.submit(score, table, target, parameters) for parameters in tried]
    parameters_of = dict(zip(futures, tried, strict=True))
    best = 0.0
    for future in mh.as_completed(futures):
        if future.result() > best:
            best = future.result()
            told(parameters_of[future], best)
    return client.gather(futures)


def random_search_alone(models=60):
    """The same in this process."""
    table, target = load_breast_cancer(return_X_y=True)
    return [score(table, target, parameters) for parameters in candidates(models)]


def grid_search(client):
    """scikit-learn's grid search over random forests, on the cluster of `client`."""
    with joblib.parallel_config("manyhands", client=client):
        return fitted(n_jobs=-1)


def fitted(n_jobs):
    """The grid search, with its best forest fitted. `n_jobs=1` stays in this process."""
    forests = RandomForestClassifier(random_state=0)
    search = GridSearchCV(forests, GRID, n_jobs=n_jobs, cv=5)
    return search.fit(*load_breast_cancer(return_X_y=True))


def timed(work, *args):
    """What `work` returns, and how many seconds it took."""
    start = time.perf_counter()
    found = work(*args)
    return found, time.perf_counter() - start


def show(parameters, score):
    print(f"  {100 * score:.2f} % right with C={parameters['C']:.3g}, ", end="")
    print(f"gamma={parameters['gamma']:.3g}")


def main():
    models = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    with mh.Client(preload=PRELOAD) as client:
        print(f"{models} models at random, one in each task; the best so far:")
        scores, together = timed(random_search, client, models, show)
        expected, one_process = timed(random_search_alone, models)
        assert scores == expected
        print(f"manyhands {together:.2f} s, one process {one_process:.2f} s; all scores agree\n")

        search, together = timed(grid_search, client)
        expected, one_process = timed(fitted, 1)
        assert search.best_params_ == expected.best_params_
        print(f"grid search: {100 * search.best_score_:.2f} % right with {search.best_params_}")
        print(f"manyhands {together:.2f} s, one process {one_process:.2f} s; both agree")


if __name__ == "__main__":
    main()
