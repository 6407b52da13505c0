-- Text that the sender of a task hands on with it, at most 512 bytes.
ALTER TABLE tasks ADD COLUMN trace TEXT;
