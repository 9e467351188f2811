"""A night's evaluation as an Airflow DAG."""

from datetime import datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

with DAG(
    dag_id="picobatch_nightly_evaluation",
    schedule="15 3 * * *",
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001  # Airflow takes it as UTC
    catchup=False,  # nights that were missed are not made up for: the model is today's
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=6),
) as dag:
    # Airflow fails the task for any exit code but 0; a retry would find what the first try found.
    BashOperator(
        task_id="evaluate",
        bash_command="exec /opt/picobatch/bin/runner eval /srv/evaluation/nightly.toml",
        env={"PICOBATCH_MODELS_DIR": "/srv/evaluation/models"},
        append_env=True,
        retries=0,
    )
