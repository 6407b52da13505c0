-- What a transaction writes, as one row of lists: so that it is one statement, whatever it holds. An exchange
-- with the connection is answered statement by statement, and each answer is a change of threads.
--
-- Each list is a JSON array of rows, each row an array of values; null: nothing of that kind. In which order
-- triggers run is not said, so what depends on an order stands in one of them. What is in braces is filled in
-- from the definition of a task's columns, and from the codes of enums.

CREATE TEMP VIEW frestq_writes AS SELECT
    NULL AS changed, NULL AS created, NULL AS payloads,
    NULL AS accepted, NULL AS outgoing, NULL AS settled,
    NULL AS links, NULL AS head;

-- First what has ended, whose unique key a new task may have; payloads last, of tasks that are there.
CREATE TEMP TRIGGER frestq_tasks INSTEAD OF INSERT ON frestq_writes
WHEN coalesce(NEW.changed, NEW.created, NEW.payloads) IS NOT NULL BEGIN
    UPDATE tasks SET {set} FROM jsonb_each(NEW.changed) v WHERE tasks.id = v.value->>0;

    INSERT INTO tasks ({columns}) SELECT {values} FROM jsonb_each(NEW.created) v;

    UPDATE tasks SET
        first_input = CASE
            WHEN v.value->>1 IS NULL OR v.value->>1 = input THEN first_input
            ELSE coalesce(first_input, input)
        END,
        input = coalesce(v.value->>1, input), reservation = coalesce(v.value->>2, reservation),
        progress = coalesce(v.value->>3, progress)
    FROM jsonb_each(NEW.payloads) v WHERE tasks.id = v.value->>0;
END;

CREATE TEMP TRIGGER frestq_accepted INSTEAD OF INSERT ON frestq_writes WHEN NEW.accepted IS NOT NULL BEGIN
    INSERT INTO inbox (peer, message, hash, queue, action, task, data, received_at)
    SELECT value->>0, value->>1, unhex(value->>2), value->>3, value->>4, value->>5, value->>6, value->>7
    FROM jsonb_each(NEW.accepted);
END;

CREATE TEMP TRIGGER frestq_outgoing INSTEAD OF INSERT ON frestq_writes WHEN NEW.outgoing IS NOT NULL BEGIN
    INSERT INTO outbox (
        seq, peer, message, queue, action, task, carries_task, body, state, due_at, expires_at, created_at, pin
    ) SELECT
        value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7, {PENDING},
        value->>8, value->>9, value->>10, unhex(value->>11)
    FROM jsonb_each(NEW.outgoing);
END;

CREATE TEMP TRIGGER frestq_settled INSTEAD OF INSERT ON frestq_writes WHEN NEW.settled IS NOT NULL BEGIN
    UPDATE outbox SET
        state = v.value->>1, answer = v.value->>2, attempts = attempts + 1, due_at = coalesce(v.value->>3, due_at),
        last_error = v.value->>4
    FROM jsonb_each(NEW.settled) v WHERE outbox.seq = v.value->>0 AND outbox.state = {PENDING};
END;

CREATE TEMP TRIGGER frestq_links INSTEAD OF INSERT ON frestq_writes WHEN NEW.links IS NOT NULL BEGIN
    INSERT INTO audit (
        chain, seq, at, peer, certificate, queue, action, message, task, body, answer, hash
    ) SELECT
        value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7, value->>8,
        unhex(value->>9), value->>10, unhex(value->>11)
    FROM jsonb_each(NEW.links);

    INSERT INTO audit_heads (chain, seq, hash)
    SELECT value->>0, value->>1, unhex(value->>2) FROM jsonb_each(NEW.head) WHERE true
    ON CONFLICT (chain) DO UPDATE SET seq = excluded.seq, hash = excluded.hash;
END;
