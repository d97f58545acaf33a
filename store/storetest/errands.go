package storetest

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/enroll"
	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/store"
)

// approvedErrand is what one operator asked for and another agreed to.
func approvedErrand(t *testing.T, db *store.DB) enroll.Held {
	t.Helper()
	h := heldRequest("")
	h.Profile, h.KeyHash, h.Subject = "", "", ""
	h.Errand = &enroll.Errand{Operator: "ada", Action: "device.retire", Object: "device d1", Parameters: json.RawMessage(`{"reason":"smoke"}`)}
	got, err := db.Hold(t.Context(), h, Event("device.retire", "d1"))
	do(t, err)
	same(t, "held errand", got, h)
	do(t, db.SettleHeld(t.Context(), enroll.Settlement{ID: h.ID, To: enroll.Approved, By: "bob", At: Now}, Event("request.approve", h.ID)))
	h.State, h.By, h.Decided = enroll.Approved, "bob", Now
	got, err = db.HeldByKey(t.Context(), h.Key, Now)
	do(t, err)
	if got.Errand == nil {
		t.Fatalf("no errand: %+v", got)
	}
	same(t, "errand", *got.Errand, *h.Errand)
	got.Errand = h.Errand
	same(t, "approved errand", got, h)
	return h
}

// An approval is used up by one event, together with what it tells, whichever way that is written.
func testErrands(t *testing.T, place Place) {
	handles := []*store.DB{place(t), place(t)}
	register(t, handles[0], 1)
	for name, deed := range map[string]func(context.Context, *store.DB, audit.Event) error{
		"a change": func(ctx context.Context, db *store.DB, e audit.Event) error {
			return db.RemoveAnchor(ctx, e.Object.ID, "", e)
		},
		"an import": func(ctx context.Context, db *store.DB, e audit.Event) error {
			_, err := db.ChangeDevices(ctx, fleet.Change{Import: []fleet.Line{{Number: 1, Device: fleet.Device{ID: e.Object.ID}}}, At: Now,
				EventWith: func(fleet.Imported) (audit.Event, error) { return e, nil }})
			return err
		},
		"a read": func(ctx context.Context, db *store.DB, e audit.Event) error { return db.Append(ctx, e) },
	} {
		h := approvedErrand(t, handles[0])
		errs := together(8, func(n int) error {
			e := Event("device.retire", h.ID)
			e.Approval = h.ID
			if name == "a change" {
				do(t, handles[n%2].AddAnchor(context.Background(), enroll.Anchor{ID: h.ID, Profile: "line", Kind: "idevid", DER: []byte{1}, Added: Now}, Event("anchor.add", h.ID)))
			}
			err := deed(context.Background(), handles[n%2], e)
			wantRecorded(t, handles[0], e, err == nil)
			return err
		})
		if n := settled(t, errs, fault.Conflict, "approval_used"); n != 1 {
			t.Errorf("%s was done %d times on one approval", name, n)
		}
		found, err := handles[1].HeldRequests(t.Context(), enroll.HeldFilter{ID: h.ID})
		do(t, err)
		if len(found) != 1 || found[0].State != enroll.Used {
			t.Errorf("%s: the request is %+v", name, found)
		}
		_, err = handles[0].HeldByKey(t.Context(), h.Key, Now)
		want(t, err, fault.NotFound, "request_unknown")
	}

	late := approvedErrand(t, handles[0])
	e := Event("device.retire", "d1")
	e.Approval, e.At = late.ID, late.Expires.Add(time.Millisecond)
	want(t, handles[0].Append(t.Context(), e), fault.Conflict, "approval_used")
	wantRecorded(t, handles[0], e, false)
}
