package store

import (
	"context"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/fleet"
)

// ward is a device to be quarantined along with an event.
type ward struct {
	device, reason string
}

// Quarantine stops the device in one transaction with the event that tells
// why. A device that is unknown or not in service keeps its state, and the event
// is still written. Once it has returned, nothing is issued to the device.
func (db *DB) Quarantine(ctx context.Context, device, reason string, e audit.Event) error {
	entry, err := db.newEntry(&e)
	if err != nil {
		return err
	}
	return db.submit(ctx, &unit{entry: entry, ward: &ward{device: device, reason: reason}})
}

// stop keeps the desk up to date with a quarantine.
func (d *desk) stop(w *ward, at int64) {
	if v := d.devices[w.device]; v != nil && v.state.InService() {
		v.state, v.stopped = fleet.Quarantined, &stopped{reason: w.reason, at: at}
	}
}

// stopped is why and when a device was quarantined by this batch.
type stopped struct {
	reason string
	at     int64
}

// writeStopped writes the quarantines. There are few.
func (d *desk) writeStopped(ctx context.Context) error {
	for _, v := range d.devices {
		if v.stopped == nil {
			continue
		}
		err := d.tx.exec(ctx, "UPDATE device SET state = ?, reason = ?, changed = ? WHERE seq = ?",
			string(fleet.Quarantined), v.stopped.reason, v.stopped.at, v.seq)
		if err != nil {
			return err
		}
	}
	return nil
}
