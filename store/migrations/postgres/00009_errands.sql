-- +goose Up

-- What an operator has asked for, where the request that waits is no device's; empty for all others.
ALTER TABLE held ADD COLUMN operator TEXT NOT NULL DEFAULT '';
ALTER TABLE held ADD COLUMN action TEXT NOT NULL DEFAULT '';
ALTER TABLE held ADD COLUMN object TEXT NOT NULL DEFAULT '';     -- type and id, with a space between
ALTER TABLE held ADD COLUMN parameters TEXT NOT NULL DEFAULT ''; -- JSON
ALTER TABLE held ADD COLUMN content TEXT NOT NULL DEFAULT '';    -- digest of what was sent along
