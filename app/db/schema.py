"""The tables.

Times are UTC milliseconds since the epoch: the same arithmetic on both databases, and no time zones.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)

# SQLite autoincrements only columns declared INTEGER.
_Serial = BigInteger().with_variant(Integer, "sqlite")


def _partial(name: str, *columns: str, where: str) -> Index:
    return Index(name, *columns, postgresql_where=text(where), sqlite_where=text(where))


tasks = Table(
    "tasks",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("project", String(64), nullable=False),
    Column("subject", String(255)),
    Column("model", String(32), nullable=False),
    Column("type", String(32), nullable=False),
    Column("input", JSON, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("webhook_url", Text),
    Column("retry_of", String(40)),
    Column("status", String(16), nullable=False),
    Column("upstream_task_id", String(128)),
    Column("attempts", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("error_code", String(32)),
    Column("error_message", Text),
    Column("error_upstream_code", String(32)),
    Column("created_at", BigInteger, nullable=False),
    Column("claimed_at", BigInteger),
    Column("claimed_by", String(32)),
    Column("submitted_at", BigInteger),
    Column("completed_at", BigInteger),
    Column("updated_at", BigInteger, nullable=False),
    Column("not_before", BigInteger, nullable=False),
    Column("ask_at", BigInteger),
    Column("asked_at", BigInteger),
    Column("asks", Integer, nullable=False),
    Column("deadline_at", BigInteger),
    Column("callbacks", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    # Pages of a project's tasks, newest first.
    Index("ix_tasks_project_id", "project", "id"),
    Index("ix_tasks_project_status_id", "project", "status", "id"),
    Index("ix_tasks_project_model_id", "project", "model", "id"),
    Index("ix_tasks_project_type_id", "project", "type", "id"),
    _partial("ix_tasks_project_subject_id", "project", "subject", "id", where="subject IS NOT NULL"),
    # The queue, oldest first: all tasks, and per project.
    _partial("ix_tasks_queued_id", "id", where="status = 'queued'"),
    _partial("ix_tasks_queue", "project", "id", where="status = 'queued'"),
    # Tasks claimed by each process.
    _partial("ix_tasks_claimed_by", "claimed_by", where="status = 'submitting'"),
    # When to poll, and when to give up.
    _partial("ix_tasks_ask_at", "ask_at", where="ask_at IS NOT NULL"),
    _partial("ix_tasks_deadline_at", "deadline_at", where="deadline_at IS NOT NULL"),
)

images = Table(
    "images",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("task_id", ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("source_url", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("content_type", String(64)),
    Column("bytes", BigInteger),
    Column("width", Integer),
    Column("height", Integer),
    # Names the stored file.
    Column("hash", String(64)),
    Column("reason", Text),
    # Database defaults, for rows that replicas of the previous version insert.
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("tried_at", BigInteger),
    Column("next_try_at", BigInteger, server_default="0"),
    Column("claimed_by", String(32)),
    Index("ix_images_task_id", "task_id"),
    _partial("ix_images_due", "next_try_at", where="state = 'pending'"),
    _partial("ix_images_hash", "hash", where="hash IS NOT NULL"),
)

blobs = Table(
    # Stored files, named by hash. Code that adds or removes a reference locks the row.
    "blobs",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("content_type", String(64)),
    Column("bytes", BigInteger, nullable=False),
    Column("width", Integer),
    Column("height", Integer),
    Column("created_at", BigInteger, nullable=False),
    # When to check for references; null while referenced.
    Column("check_at", BigInteger),
    # The file is being deleted; `check_at` is when the deleting process's lease ends.
    Column("is_going", Boolean, nullable=False),
    _partial("ix_blobs_check_at", "check_at", where="check_at IS NOT NULL"),
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("project", String(64), nullable=False),
    Column("subject", String(255)),
    # Null once expired.
    Column("hash", String(64)),
    Column("content_type", String(64), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    # Uploads with files to release, and expired ones, which are remembered for a week.
    _partial("ix_uploads_expires_at", "expires_at", where="hash IS NOT NULL"),
    _partial("ix_uploads_remembered", "expires_at", where="hash IS NULL"),
    _partial("ix_uploads_hash", "hash", where="hash IS NOT NULL"),
)

events = Table(
    "events",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("task_id", ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),
    Column("project", String(64), nullable=False),
    Column("type", String(32), nullable=False),
    # The task's mutable fields at that moment; the rest is in the task's row.
    Column("snapshot", JSON, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("subject", String(255)),
    Index("ix_events_task_id", "task_id", "id"),
    Index("ix_events_project_id", "project", "id"),
    _partial("ix_events_project_subject_id", "project", "subject", "id", where="subject IS NOT NULL"),
    sqlite_autoincrement=True,
)

callbacks = Table(
    "callbacks",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("task_id", ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("status", Integer, nullable=False),
    Column("answer", String(32), nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index("ix_callbacks_task_id", "task_id", "id"),
    sqlite_autoincrement=True,
)

webhook_secrets = Table(
    "webhook_secrets",
    metadata,
    Column("project", String(64), primary_key=True),
    Column("secret", String(64), nullable=False),
    # The previous secret, which also signs until `previous_until`.
    Column("previous", String(64)),
    Column("previous_until", BigInteger),
    Column("created_at", BigInteger, nullable=False),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("task_id", ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),
    Column("project", String(64), nullable=False),
    Column("event", String(32), nullable=False),
    Column("url", Text, nullable=False),
    # The URL's host. Hosts take turns.
    Column("host", String(255), nullable=False),
    Column("snapshot", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("tries", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", BigInteger),
    Column("due_at", BigInteger),
    Column("claimed_by", String(32)),
    Column("created_at", BigInteger, nullable=False),
    Index("ix_webhook_deliveries_task_id", "task_id", "id"),
    Index("ix_webhook_deliveries_project_id", "project", "id"),
    Index("ix_webhook_deliveries_project_state_id", "project", "state", "id"),
    # Pending deliveries by host and due time. A scan of hosts skips a dead host's backlog in one step.
    _partial("ix_webhook_deliveries_due", "host", "due_at", where="state = 'pending'"),
)

webhook_attempts = Table(
    "webhook_attempts",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("delivery_id", ForeignKey("webhook_deliveries.id", ondelete="CASCADE"), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("status", Integer),
    Column("error", Text),
    Column("latency_ms", Integer, nullable=False),
    # The start of the response body, up to 1 KiB.
    Column("response", LargeBinary),
    Index("ix_webhook_attempts_delivery_id", "delivery_id", "id"),
    sqlite_autoincrement=True,
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("project", String(64), primary_key=True),
    Column("subject", String(255), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("task_id", String(40), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Index("ix_idempotency_keys_created_at", "created_at"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("project", String(64), nullable=False),
    Column("name", String(255), nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
    Column("last_used_at", BigInteger),
)

project_budgets = Table(
    # How many tasks a project may create per day; unlimited without a row.
    "project_budgets",
    metadata,
    Column("project", String(64), primary_key=True),
    Column("daily_tasks", Integer, nullable=False),
)

quota_counts = Table(
    # Usage of token quotas and daily project quotas.
    "quota_counts",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("used", Integer, nullable=False),
    Column("kept_until", BigInteger, nullable=False),
    Index("ix_quota_counts_kept_until", "kept_until"),
)

account = Table(
    # Whether the upstream account may be used: one row, shared by all replicas.
    "account",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("state", String(16), nullable=False),
    Column("error_code", String(32)),
    Column("error_message", Text),
    Column("error_upstream_code", String(32)),
    Column("until", BigInteger, nullable=False),
    # Consecutive failures, whether they led to a pause or not.
    Column("pauses", Integer, nullable=False),
    # Only read by replicas of version 0.1.
    Column("probing", Boolean, nullable=False),
)

rate_slots = Table(
    # A limit of N per window is N rows, each taken by one call and free again after a time.
    "rate_slots",
    metadata,
    Column("scope", String(16), primary_key=True),
    Column("slot", Integer, primary_key=True, autoincrement=False),
    Column("free_at", BigInteger, nullable=False),
    Index("ix_rate_slots_scope_free_at", "scope", "free_at"),
)

facts = Table(
    # Values that all replicas must agree on.
    "facts",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)
