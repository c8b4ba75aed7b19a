-- Each query has a name, by which Python asks for it. `latest` attempts are joined as columns prefixed `a_`.

-- name: keep_counts
UPDATE store SET
  revision = max(revision, :revision),
  attempt_count = attempt_count + :attempt_count,
  span_count = span_count + :span_count;

-- name: move_rollouts
INSERT INTO rollout_counts (queue, status, count) VALUES (:queue, :status, :count)
ON CONFLICT (queue, status) DO UPDATE SET count = count + excluded.count;

-- name: forget_count
DELETE FROM rollout_counts WHERE queue = :queue AND status = :status AND count = 0;

-- name: revision
SELECT revision FROM store;

-- name: insert_rollout
INSERT INTO rollouts (
  rollout_id, run_id, queue, priority, queue_position, status, mode, input_json, resources_id, resources_version,
  timeout, unresponsive_timeout, max_attempts, retry_condition, max_redeliveries, retry_policies, metadata_json,
  labels_json, create_time, end_time, end_revision, attempt_count, redelivery_count, release_count, latest_attempt_id,
  available_time, final_reward, revision
) VALUES (
  :rollout_id, :run_id, :queue, :priority, :queue_position, :status, :mode, :input_json, :resources_id,
  :resources_version, :timeout, :unresponsive_timeout, :max_attempts, :retry_condition, :max_redeliveries,
  :retry_policies, :metadata_json, :labels_json, :create_time, :end_time, :end_revision, :attempt_count,
  :redelivery_count, :release_count, :latest_attempt_id, :available_time, :final_reward, :revision
);

-- name: rollout
SELECT * FROM rollouts WHERE rollout_id = :rollout_id;

-- name: rollout_with_attempt
SELECT * FROM rollouts_with_attempt WHERE rollout_id = :rollout_id;

-- name: rollouts_by_id
SELECT * FROM rollouts_with_attempt WHERE rollout_id IN (SELECT value FROM json_each(:rollout_ids));

-- name: rollout_endings
SELECT rollout_id, end_revision FROM rollouts WHERE rollout_id IN (SELECT value FROM json_each(:rollout_ids));

-- name: queued_rollouts
SELECT rollout_id FROM rollouts
WHERE queue = :queue AND status IN ('queuing', 'requeuing') AND available_time IS NULL
ORDER BY priority DESC, queue_position
LIMIT :limit;

-- name: set_rollout_at_work
UPDATE rollouts SET status = :status, revision = :revision WHERE rollout_id = :rollout_id;

-- name: set_rollout_status
UPDATE rollouts SET
  status = :status,
  redelivery_count = :redelivery_count,
  release_count = :release_count,
  queue_position = :queue_position,
  available_time = :available_time,
  end_time = :end_time,
  end_revision = :end_revision,
  revision = :revision
WHERE rollout_id = :rollout_id;

-- name: date_rollouts_back
UPDATE rollouts SET create_time = :now WHERE create_time > :now;

-- name: date_back_offs_back
UPDATE rollouts SET available_time = :now + available_time - attempts.end_time
FROM attempts
WHERE available_time IS NOT NULL AND attempts.attempt_id = latest_attempt_id AND attempts.end_time > :now;

-- name: start_rollout_attempt
UPDATE rollouts SET
  status = :status, attempt_count = :attempt_count, latest_attempt_id = :latest_attempt_id, revision = :revision
WHERE rollout_id = :rollout_id;

-- name: reopen_rollout
UPDATE rollouts SET
  status = CASE WHEN end_time IS NULL THEN status ELSE 'queuing' END,
  available_time = :available_time, final_reward = :final_reward, end_time = :end_time, end_revision = :end_revision
WHERE rollout_id = :rollout_id;

-- name: pin_rollout_resources
UPDATE rollouts SET resources_id = :resources_id, resources_version = :resources_version WHERE rollout_id = :rollout_id;

-- name: update_rollout_fields
UPDATE rollouts SET
  mode = :mode, input_json = :input_json, resources_id = :resources_id, resources_version = :resources_version,
  timeout = :timeout, unresponsive_timeout = :unresponsive_timeout, max_attempts = :max_attempts,
  retry_condition = :retry_condition, max_redeliveries = :max_redeliveries, retry_policies = :retry_policies,
  metadata_json = :metadata_json, labels_json = :labels_json, revision = :revision
WHERE rollout_id = :rollout_id;

-- name: set_rollout_revision
UPDATE rollouts SET revision = :revision WHERE rollout_id = :rollout_id;

-- name: set_rollout_reward
UPDATE rollouts SET final_reward = :reward, revision = :revision
WHERE rollout_id = :rollout_id AND latest_attempt_id = :attempt_id;

-- name: end_back_off
UPDATE rollouts SET available_time = NULL, revision = :revision
WHERE rollout_id = :rollout_id AND available_time <= :now
RETURNING queue;

-- name: backed_off
SELECT rollout_id, available_time FROM rollouts WHERE available_time IS NOT NULL;

-- name: insert_attempt
INSERT INTO attempts (
  attempt_id, rollout_id, sequence_id, status, worker_id, start_time, end_time, last_heartbeat_time, lease_duration,
  lease_expire_time, metadata_json, failure, lost, final_reward, reward_sequence_id, lost_span_count, revision
) VALUES (
  :attempt_id, :rollout_id, :sequence_id, :status, :worker_id, :start_time, :end_time, :last_heartbeat_time,
  :lease_duration, :lease_expire_time, :metadata_json, :failure, :lost, :final_reward, :reward_sequence_id,
  :lost_span_count, :revision
);

-- name: count_attempts
UPDATE store SET attempt_count = attempt_count + :count;

-- name: earlier_failures
SELECT status, count(*) AS count FROM attempts
WHERE rollout_id = :rollout_id AND sequence_id < :sequence_id AND lost = 0
  AND status IN ('failed', 'timeout', 'unresponsive')
GROUP BY status;

-- name: attempt
SELECT * FROM attempts WHERE attempt_id = :attempt_id AND rollout_id = :rollout_id;

-- name: set_attempt_status
UPDATE attempts SET
  status = :status, lost = :lost, end_time = :end_time, last_heartbeat_time = :last_heartbeat_time,
  lease_expire_time = :lease_expire_time, failure = :failure, revision = :revision
WHERE attempt_id = :attempt_id;

-- name: touch_attempt
UPDATE attempts SET last_heartbeat_time = :last_heartbeat_time, lease_expire_time = :lease_expire_time
WHERE attempt_id = :attempt_id;

-- name: set_attempt_reward
UPDATE attempts SET final_reward = :reward, reward_sequence_id = :sequence_id, revision = :revision
WHERE attempt_id = :attempt_id AND reward_sequence_id <= :sequence_id;

-- name: set_lost_span_count
UPDATE attempts SET lost_span_count = :lost_span_count WHERE attempt_id = :attempt_id;

-- name: update_attempt_fields
UPDATE attempts SET
  worker_id = :worker_id, last_heartbeat_time = :last_heartbeat_time, metadata_json = :metadata_json,
  revision = :revision
WHERE attempt_id = :attempt_id;

-- name: renew_leases
UPDATE attempts SET
  start_time = min(start_time, :now),  -- which is later only where the clock was set back
  last_heartbeat_time = :now,  -- silence while the server was away is nobody's
  lease_expire_time = :now + lease_duration
WHERE status IN ('preparing', 'running');

-- name: live_attempts
SELECT rollout_id, attempt_id FROM attempts WHERE status IN ('preparing', 'running');

-- name: advance_sequence
INSERT INTO span_sequences (rollout_id, last_sequence_id) VALUES (:rollout_id, :count)
ON CONFLICT (rollout_id) DO UPDATE SET last_sequence_id = last_sequence_id + :count
RETURNING last_sequence_id;

-- name: raise_sequence
INSERT INTO span_sequences (rollout_id, last_sequence_id) VALUES (:rollout_id, :sequence_id)
ON CONFLICT (rollout_id) DO UPDATE SET last_sequence_id = max(last_sequence_id, :sequence_id);

-- name: last_sequence
SELECT last_sequence_id FROM span_sequences WHERE rollout_id = :rollout_id;

-- name: insert_span
INSERT INTO spans (
  rollout_id, attempt_id, span_id, sequence_id, trace_id, parent_span_id, name, start_time, end_time, span
) VALUES (
  ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
);

-- name: count_spans
UPDATE store SET span_count = span_count + :count;

-- name: stored_spans
SELECT span_id, sequence_id FROM spans
WHERE attempt_id = :attempt_id AND span_id IN (SELECT value FROM json_each(:span_ids));

-- name: insert_resources
INSERT INTO resources (revision, resources_id, version, run_id, create_time, update_time, resources)
VALUES (:revision, :resources_id, :version, :run_id, :create_time, :update_time, :resources);

-- name: resources_version
SELECT resources FROM resources WHERE resources_id = :resources_id AND version = :version;

-- name: resources_last_version
SELECT resources, create_time, update_time FROM resources WHERE resources_id = :resources_id ORDER BY version DESC LIMIT 1;

-- name: resources_latest
SELECT resources FROM resources ORDER BY revision DESC LIMIT 1;

-- name: resources_latest_of_run
SELECT resources FROM resources WHERE run_id = :run_id ORDER BY revision DESC LIMIT 1;

-- name: insert_run
INSERT INTO runs (run_id, queue, algorithm, status, labels_json, revision, run)
VALUES (:run_id, :queue, :algorithm, :status, :labels_json, :revision, :run);

-- name: run
SELECT run FROM runs WHERE run_id = :run_id;

-- name: update_run
UPDATE runs SET status = :status, labels_json = :labels_json, revision = :revision, run = :run WHERE run_id = :run_id;

-- name: worker
SELECT * FROM workers WHERE worker_id = :worker_id;

-- name: add_worker
INSERT INTO workers (worker_id, revision) VALUES (:worker_id, :revision);

-- name: set_worker_heartbeat
UPDATE workers SET last_heartbeat_time = :now, heartbeat_stats_json = coalesce(:stats_json, heartbeat_stats_json)
WHERE worker_id = :worker_id;

-- name: set_worker_dequeue
UPDATE workers SET last_dequeue_time = :now, queue = :queue WHERE worker_id = :worker_id;

-- name: set_worker_busy
INSERT INTO workers (worker_id, status, last_busy_time, current_rollout_id, current_attempt_id, revision)
VALUES (:worker_id, 'busy', :now, :rollout_id, :attempt_id, :revision)
ON CONFLICT (worker_id) DO UPDATE SET
  status = excluded.status, last_busy_time = excluded.last_busy_time,
  current_rollout_id = excluded.current_rollout_id, current_attempt_id = excluded.current_attempt_id,
  revision = excluded.revision;

-- name: set_worker_free
UPDATE workers SET
  status = :status, last_idle_time = :now, current_rollout_id = '', current_attempt_id = '', revision = :revision
WHERE worker_id = :worker_id AND current_attempt_id = :attempt_id;

-- name: request
SELECT digest, answer FROM requests WHERE request_id = :request_id AND expire_time > :now;

-- name: put_request
INSERT OR REPLACE INTO requests (request_id, digest, answer, expire_time)
VALUES (:request_id, :digest, :answer, :expire_time);

-- name: forget_requests
DELETE FROM requests WHERE request_id IN (
  SELECT request_id FROM requests WHERE expire_time <= :now ORDER BY expire_time LIMIT 100
);

-- name: rollouts_to_delete
SELECT rollout_id, run_id, queue, status, attempt_count, end_time FROM rollouts
WHERE rollout_id IN (SELECT value FROM json_each(:rollout_ids));

-- name: ended_rollouts
SELECT rollout_id, run_id, queue, status, attempt_count FROM rollouts
WHERE end_order <= :ended_by
ORDER BY end_order, id
LIMIT :limit;

-- name: ended_rollouts_of_run
SELECT rollout_id, run_id, queue, status, attempt_count FROM rollouts
WHERE run_id = :run_id AND end_time <= :ended_by
ORDER BY end_time
LIMIT :limit;

-- name: old_runs
SELECT run_id FROM runs
WHERE id <= (SELECT id FROM runs ORDER BY id DESC LIMIT 1 OFFSET :kept) AND status <> :running
  AND EXISTS (SELECT 1 FROM rollouts WHERE rollouts.run_id = runs.run_id AND end_time IS NOT NULL);

-- name: live_attempt
SELECT attempt_id, worker_id FROM attempts WHERE rollout_id = :rollout_id AND status IN ('preparing', 'running');

-- name: delete_rollout
DELETE FROM rollouts WHERE rollout_id = :rollout_id;

-- name: delete_attempts
DELETE FROM attempts WHERE rollout_id = :rollout_id;

-- name: delete_sequence
DELETE FROM span_sequences WHERE rollout_id = :rollout_id;

-- name: put_tombstone
INSERT INTO tombstones (revision, id, run_id, queue, delete_time) VALUES (:revision, :id, :run_id, :queue, :now);

-- name: put_deletion
INSERT INTO deletions (rollout_id) VALUES (:rollout_id);

-- name: deletion
SELECT rollout_id FROM deletions WHERE rollout_id = :rollout_id;

-- name: deletions
SELECT rollout_id FROM deletions ORDER BY rollout_id LIMIT :limit;

-- name: delete_spans
DELETE FROM spans WHERE id IN (SELECT id FROM spans WHERE rollout_id = :rollout_id LIMIT :limit);

-- name: end_deletion
DELETE FROM deletions WHERE rollout_id = :rollout_id;

-- name: old_tombstone
SELECT max(revision) AS revision
FROM (SELECT revision, delete_time FROM tombstones ORDER BY revision LIMIT :limit)
WHERE delete_time <= :deleted_by;

-- name: forget_tombstones
DELETE FROM tombstones WHERE revision <= :revision;

-- name: forget_revision
UPDATE store SET forgotten_revision = max(forgotten_revision, :revision);

-- name: silent_workers
SELECT worker_id FROM workers
WHERE current_attempt_id = '' AND max(
  coalesce(last_heartbeat_time, 0), coalesce(last_dequeue_time, 0), coalesce(last_busy_time, 0),
  coalesce(last_idle_time, 0)
) <= :heard_by
LIMIT :limit;

-- name: delete_worker
DELETE FROM workers WHERE worker_id = :worker_id;

-- name: count_rollouts
SELECT queue, status, count FROM rollout_counts ORDER BY queue, status;

-- name: oldest_queued
SELECT min(create_time) AS create_time FROM rollouts WHERE queue = :queue AND status IN ('queuing', 'requeuing');

-- name: count_leases
SELECT worker_id, count(*) AS count, min(lease_expire_time) AS first_lease_expire_time
FROM attempts WHERE status IN ('preparing', 'running')
GROUP BY worker_id;

-- name: count_others
SELECT
  attempt_count, span_count, revision,
  (SELECT count(*) FROM resources WHERE is_last) AS resources_count,
  (SELECT count(*) FROM workers) AS worker_count,
  (SELECT count(*) FROM runs) AS run_count,
  (SELECT page_count * page_size FROM pragma_page_count, pragma_page_size) AS database_bytes
FROM store;

-- name: revisions
SELECT revision, forgotten_revision FROM store;

-- name: changes
SELECT revision, 'rollout' AS kind, run_id, queue FROM rollouts WHERE revision > :after
UNION ALL SELECT revision, 'resources', run_id, NULL FROM resources WHERE revision > :after
UNION ALL SELECT revision, 'run', run_id, queue FROM runs WHERE revision > :after
UNION ALL SELECT revision, 'worker', NULL, NULL FROM workers WHERE revision > :after
UNION ALL SELECT revision, 'tombstone', run_id, queue FROM tombstones WHERE revision > :after
ORDER BY revision
LIMIT :limit;

-- name: changed_rollout
SELECT * FROM rollouts_with_attempt WHERE revision = :revision;

-- name: changed_resources
SELECT resources FROM resources WHERE revision = :revision;

-- name: changed_run
SELECT run FROM runs WHERE revision = :revision;

-- name: changed_worker
SELECT * FROM workers WHERE revision = :revision;

-- name: tombstone
SELECT id, queue FROM tombstones WHERE revision = :revision;
