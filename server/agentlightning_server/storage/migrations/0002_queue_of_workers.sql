-- Which queue a worker last asked for work. Empty: it has not asked, or did so before this was kept.
ALTER TABLE workers ADD COLUMN queue TEXT NOT NULL DEFAULT '';
