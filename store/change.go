package store

import (
	"context"

	"github.com/hallmark-pki/hallmark/audit"
)

// change runs an operator's change and writes its event, in a transaction of
// their own. Changes are rare; they gain nothing from sharing one.
func (db *DB) change(ctx context.Context, e *audit.Event, f func(ctx context.Context, tx *session) error) error {
	entry, err := db.newEntry(e)
	if err != nil {
		return err
	}
	entry.pack(db.packer)
	return db.changer.do(ctx, func(tx *session) error {
		ctx := db.engine.patience(ctx)
		if err := tx.useUp(ctx, e.Approval, entry.at); err != nil {
			return err
		}
		if err := f(ctx, tx); err != nil {
			return err
		}
		return tx.insert(ctx, insertEntry, entryWidth, entry.values(nil))
	})
}
