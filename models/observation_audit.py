"""Does the way a record was kept give the outcome away?

For each question a small model sees age, sex and the shape of the record (features.record_shape): how long the person
was observed, the true calendar, how dense the older record is beside the newer, and which routine recordings it lacks.
None of it is medicine. Where it ranks patients better than age and sex alone, beyond chance, something about the
source or the choice of prediction times tells the outcome, and a model that comes to see it will look better than it
is. On Synthea's default export, which keeps the ten years before death or export, age, sex and the length of the record
have an AUROC of 0.98 for death within a year, if prediction times lie anywhere in a person's record (docs/audit.md).

- *The model*: age and sex as in the ladder, then a few stumps on the shape, started from the log-odds of age and sex;
  so a shape that tells nothing adds nothing but a little noise. Its settings are fixed.
- *The rows*: all labelled ones, cross-fitted: each is scored by models that did not see its patient. Nothing is chosen
  here, so held-out patients may take part, and the interval is a fifth of the patients' narrower for it.
- *The verdict*: "gives away" if the gain in AUROC over age and sex (bootstrap of patients, paired) lies above 0 by more
  than its interval, widened for the number of questions that are audited together (Holm): of thirty 95 % intervals one
  or another lies above 0 by chance every second time. "silent" does not prove that nothing leaks, only that this model
  finds nothing in so many patients.
"""

import lightgbm
import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import norm

from features.record_shape import SHAPE
from features.result_tables import Audits
from features.settings import StudySettings
from features.tables import checked, empty
from models.baselines import THREADS, fit_age_sex, linear_log_odds
from models.discrimination import auroc, auroc_difference, draw_resamples
from models.evaluation import bootstrap_seed
from models.questions import KEYS, Question, question_rows

AGE_SEX = ["age_years", "is_female"]
FOLDS = 5
MOST_RESAMPLES = 200
STUMPS = 40
WIDTH_OF_95, LARGEST_CHANCE = 1.96, 0.025
_TYPES = {name: column.dtype for name, column in Audits.columns().items() if name not in ("chance", "verdict")}
BOOSTING = {
    "objective": "binary",
    "learning_rate": 0.1,
    "num_leaves": 2,
    "max_bin": 63,
    "min_data_in_leaf": 50,
    "lambda_l2": 5.0,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": THREADS,
    "verbosity": -1,
}


def audit_observation(
    shape: pl.DataFrame, labels: pl.DataFrame, settings: StudySettings, columns: tuple[str, ...] = tuple(SHAPE)
) -> pl.DataFrame:
    """Audit every question that enough patients answer.

    Reads:    `shape`: keys, age_years, is_female and `columns`, a row for each labelled moment. `labels`: Labels, of
              which censored rows are left out.
    Returns:  Audits, sorted by task and horizon; no row for a question with fewer patients with the outcome, or
              without, than the study asks of the train patients.
    """
    asked = sorted(Question(*row) for row in labels.select("task", "horizon_days").unique().iter_rows())
    audits = [_audit(shape, question_rows(labels, question), question, settings, columns) for question in asked]
    found = [audit for audit in audits if audit is not None]
    return checked(_with_verdicts(pl.DataFrame(found, schema_overrides=_TYPES)), Audits)


def _with_verdicts(audits: pl.DataFrame) -> pl.DataFrame:
    """Add chance, the one-sided p value of the gain after Holm's correction, and verdict; in the contract's order."""
    if audits.is_empty():
        return empty(Audits)
    middle = (audits["difference_low"] + audits["difference_high"]).to_numpy() / 2
    error = (audits["difference_high"] - audits["difference_low"]).to_numpy() / (2 * WIDTH_OF_95)
    alone = norm.sf(middle / np.maximum(error, 1e-12))
    order = np.argsort(alone, kind="stable")
    corrected = np.empty(len(alone))
    corrected[order] = np.maximum.accumulate(alone[order] * np.arange(len(alone), 0, -1)).clip(max=1)
    return audits.with_columns(
        chance=pl.Series(corrected),
        verdict=pl.when(pl.Series(corrected <= LARGEST_CHANCE)).then(pl.lit("gives away")).otherwise(pl.lit("silent")),
    ).select(Audits.column_names())


def _audit(
    shape: pl.DataFrame, rows: pl.DataFrame, question: Question, settings: StudySettings, columns: tuple[str, ...]
) -> dict[str, str | int | float] | None:
    patients = rows.group_by("subject_id").agg(pl.col("is_event").any())
    with_event = int(patients["is_event"].sum())
    if min(with_event, patients.height - with_event) < max(2, settings.fewest_subjects_with_event):
        return None
    events, subjects = rows["is_event"].to_numpy(), rows["subject_id"].to_numpy()
    seen = rows.select(KEYS).join(shape, on=KEYS, how="left", maintain_order="left")
    age_sex, record = (seen.select(pl.col(names).cast(pl.Float64)).to_numpy() for names in (AGE_SEX, list(columns)))
    base, with_shape, gains = _cross_fitted(age_sex, record, events, _folds(rows, patients))
    if auroc(base, events) < 0.5:  # to beat what is worse than guessing is to know nothing yet
        base = np.zeros(len(events))
    seed = bootstrap_seed(settings, question, "audit resamples")
    resamples = draw_resamples(subjects, min(MOST_RESAMPLES, settings.bootstrap_resamples), seed)
    difference, low, high = auroc_difference(with_shape, base, events, resamples)
    return {
        **question._asdict(),
        "rows": rows.height,
        "subjects": patients.height,
        "events": int(events.sum()),
        "auroc": auroc(with_shape, events),
        "age_sex_auroc": auroc(base, events),
        "difference": difference,
        "difference_low": low,
        "difference_high": high,
        "most_used": columns[int(np.argmax(gains))],
    }


def _folds(rows: pl.DataFrame, patients: pl.DataFrame) -> NDArray[np.int64]:
    """The fold of each row: patients dealt out in turn, those with the outcome first, so that all folds are alike."""
    dealt = patients.sort("is_event", "subject_id", descending=[True, False])
    dealt = dealt.select("subject_id", fold=pl.int_range(pl.len()) % FOLDS)
    return rows.join(dealt, on="subject_id", how="left", maintain_order="left")["fold"].to_numpy()


def _cross_fitted(
    age_sex: NDArray[np.float64], record: NDArray[np.float64], events: NDArray[np.bool_], folds: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Log-odds by age and sex, and with the shape, of models that did not see the patient; what each column gained.

    Shapes: (N, 2), (N, S), (N,), (N,) -> (N,), (N,), (S,).
    """
    base, with_shape, gains = np.zeros(len(events)), np.zeros(len(events)), np.zeros(record.shape[1])
    for fold in range(FOLDS):
        left_out = folds == fold
        fitted = fit_age_sex(age_sex[~left_out], events[~left_out], AGE_SEX, AGE_SEX)
        start = linear_log_odds(fitted, age_sex, AGE_SEX)
        seen = lightgbm.Dataset(record[~left_out], events[~left_out].astype(np.float32), init_score=start[~left_out])
        stumps = lightgbm.train(BOOSTING, seen, num_boost_round=STUMPS)
        base[left_out] = start[left_out]
        with_shape[left_out] = start[left_out] + stumps.predict(record[left_out], raw_score=True, num_threads=THREADS)
        gains += stumps.feature_importance("gain")
    return base, with_shape, gains
