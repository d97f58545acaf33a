package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/store"
)

func importLines(t testing.TB, db *store.DB, lines ...fleet.Line) fleet.Imported {
	t.Helper()
	var told fleet.Imported
	event := Event("device.import", "")
	done, err := db.ChangeDevices(t.Context(), fleet.Change{Import: lines, At: Now, EventWith: func(i fleet.Imported) (audit.Event, error) {
		told = i
		return event, nil
	}})
	do(t, err)
	same(t, "what the event is told", told, done)
	wantRecorded(t, db, event, true)
	return done
}

func testImport(t *testing.T, place Place) {
	db := place(t)
	d := fleet.Device{ID: "d1", Model: "m1", Serial: "S1", Batch: "b1", EKSHA256: "ab", AKSHA256: "cd", Labels: map[string]string{"line": "4", "site": "Ulm"}}
	other := fleet.Device{ID: "d2"}
	same(t, "first", importLines(t, db, fleet.Line{Number: 2, Device: d}, fleet.Line{Number: 3, Device: other}), fleet.Imported{Created: 2})
	same(t, "again", importLines(t, db, fleet.Line{Number: 2, Device: d}, fleet.Line{Number: 3, Device: other}), fleet.Imported{Unchanged: 2})
	got, err := db.Device(t.Context(), "d1")
	do(t, err)
	d.State, d.Created, d.Changed = fleet.Expected, Now, Now
	same(t, "imported", got, d)
	byEK, err := db.Devices(t.Context(), fleet.Filter{EKSHA256: "ab"})
	do(t, err)
	same(t, "by endorsement key", byEK, []fleet.Device{d})
	byEK, err = db.Devices(t.Context(), fleet.Filter{EKSHA256: "cd"})
	do(t, err)
	same(t, "by another", len(byEK), 0)

	// What describes the device follows the import; its state does not.
	move(t, db, "d1", fleet.Quarantined)
	d.Model, d.Labels = "m2", nil
	same(t, "update", importLines(t, db, fleet.Line{Number: 2, Device: d}), fleet.Imported{Updated: 1})
	got, err = db.Device(t.Context(), "d1")
	do(t, err)
	if got.Model != "m2" || len(got.Labels) != 0 || got.State != fleet.Quarantined || got.Reason != "test" {
		t.Fatalf("after the update: %+v", got)
	}

	// Nothing is kept without its event.
	cause := errors.New("no event")
	_, err = db.ChangeDevices(t.Context(), fleet.Change{Import: []fleet.Line{{Number: 2, Device: fleet.Device{ID: "d3"}}}, At: Now,
		EventWith: func(fleet.Imported) (audit.Event, error) { return audit.Event{}, cause }})
	if !errors.Is(err, cause) {
		t.Fatalf("got %v, want %v", err, cause)
	}
	_, err = db.Device(t.Context(), "d3")
	want(t, err, fault.NotFound, "device_unknown")

	// An empty file is an import too.
	same(t, "empty", importLines(t, db, []fleet.Line{}...), fleet.Imported{})
}

func testImportConflicts(t *testing.T, place Place) {
	db := place(t)
	line := func(n int, id, serial string) fleet.Line {
		return fleet.Line{Number: n, Device: fleet.Device{ID: id, Serial: serial}}
	}
	importLines(t, db, line(2, "z1", "S1"))
	done := importLines(t, db, line(2, "b", "S2"), line(3, "a", "S2"), line(4, "c", "S1"), line(5, "d", ""), line(6, "e", ""), line(7, "d", "S7"))
	if done.Created != 3 || done.Updated != 1 || len(done.Errors) != 2 ||
		done.Errors[0].Line != 3 || done.Errors[0].ID != "a" || done.Errors[1].Line != 4 || done.Errors[1].Says == "" {
		t.Fatalf("got %+v", done)
	}
	// A serial that was given up can be taken by another.
	done = importLines(t, db, line(2, "b", "S3"))
	same(t, "given up", done, fleet.Imported{Updated: 1})
	done = importLines(t, db, line(2, "c", "S2"), line(3, "b", "S4"))
	if done.Created != 1 || done.Updated != 1 {
		t.Fatalf("got %+v", done)
	}
}

func testImportLarge(t *testing.T, place Place) {
	db := place(t)
	lines, ids := Lines(5000)
	same(t, "first", importLines(t, db, lines...), fleet.Imported{Created: 5000})
	for i := range 100 {
		lines[i*50].Device.Batch = "changed"
	}
	more, _ := Lines(100)
	same(t, "again", importLines(t, db, append(lines, more...)...), fleet.Imported{Created: 100, Updated: 100, Unchanged: 4900})
	d, err := db.FindDevice(t.Context(), "SN-"+ids[4999])
	do(t, err)
	same(t, "found by serial", d.ID, ids[4999])
}

func testMove(t *testing.T, place Place) {
	db := place(t)
	ids := register(t, db, 2)
	change := func(id string, to fleet.State, from ...fleet.State) (audit.Event, error) {
		event := Event("device.move", id)
		_, err := db.ChangeDevices(t.Context(), fleet.Change{ID: id, From: from, To: to, Reason: "because", At: Now.Add(time.Second),
			EventWith: func(fleet.Imported) (audit.Event, error) { return event, nil }})
		wantRecorded(t, db, event, err == nil)
		return event, err
	}
	state := func(id string, wanted fleet.State) {
		t.Helper()
		d, err := db.Device(t.Context(), id)
		do(t, err)
		same(t, "state", d.State, wanted)
	}
	_, err := change("unknown", fleet.Retired, fleet.Expected)
	want(t, err, fault.NotFound, "device_unknown")
	_, err = change(ids[0], fleet.Active, fleet.Quarantined)
	want(t, err, fault.Conflict, "device_state")

	_, err = change(ids[0], fleet.Quarantined, fleet.Expected, fleet.Active)
	do(t, err)
	d, err := db.Device(t.Context(), ids[0])
	do(t, err)
	if d.State != fleet.Quarantined || d.Reason != "because" || !d.Changed.Equal(Now.Add(time.Second)) || !d.Created.Equal(Now) {
		t.Fatalf("got %+v", d)
	}
	_, err = change(ids[0], fleet.Active, fleet.Quarantined)
	do(t, err)
	state(ids[0], fleet.Expected) // never held a certificate

	issue(t, db, ids[1])
	_, err = change(ids[1], fleet.Quarantined, fleet.Active)
	do(t, err)
	_, err = change(ids[1], fleet.Active, fleet.Quarantined)
	do(t, err)
	state(ids[1], fleet.Active)
	_, err = change(ids[1], fleet.Retired, fleet.Active)
	do(t, err)
	_, err = change(ids[1], fleet.Active, fleet.Quarantined)
	want(t, err, fault.Conflict, "device_state")
}

func testDevices(t *testing.T, place Place) {
	db := place(t)
	importLines(t, db,
		fleet.Line{Number: 2, Device: fleet.Device{ID: "B", Model: "m1", Batch: "x"}},
		fleet.Line{Number: 3, Device: fleet.Device{ID: "a", Model: "m1", Batch: "y", Serial: "c"}},
		fleet.Line{Number: 4, Device: fleet.Device{ID: "c", Model: "m2", Batch: "x"}},
		fleet.Line{Number: 5, Device: fleet.Device{ID: "é", Model: "m2", Batch: "y"}})
	move(t, db, "a", fleet.Retired)
	for _, c := range []struct {
		filter fleet.Filter
		ids    []string
	}{
		{fleet.Filter{}, []string{"B", "a", "c", "é"}}, // in the order of bytes, whatever the database's locale
		{fleet.Filter{Model: "m1"}, []string{"B", "a"}},
		{fleet.Filter{Batch: "x"}, []string{"B", "c"}},
		{fleet.Filter{State: fleet.Retired}, []string{"a"}},
		{fleet.Filter{Limit: 2}, []string{"B", "a"}},
		{fleet.Filter{After: "a", Limit: 2}, []string{"c", "é"}},
		{fleet.Filter{After: "é"}, nil},
	} {
		found, err := db.Devices(t.Context(), c.filter)
		do(t, err)
		var ids []string
		for _, d := range found {
			ids = append(ids, d.ID)
		}
		if len(ids) != len(c.ids) {
			t.Errorf("%+v: got %v, want %v", c.filter, ids, c.ids)
		}
		same(t, "ids", ids, c.ids)
	}
	for name, id := range map[string]string{"a": "a", "c": "c", "B": "B"} { // an id goes before another's serial
		d, err := db.FindDevice(t.Context(), name)
		do(t, err)
		same(t, "found", d.ID, id)
	}
	for _, name := range []string{"", "nobody", "A"} {
		_, err := db.FindDevice(t.Context(), name)
		want(t, err, fault.NotFound, "device_unknown")
	}
}
