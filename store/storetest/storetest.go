// Package storetest holds the promises of package store against an engine.
// The same suite runs on SQLite and on PostgreSQL.
package storetest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/store"
)

// Place is where one database lives. Each call opens it once more, as another
// process would.
type Place func(t testing.TB) *store.DB

// Run runs the suite. fresh makes a place with an empty database.
func Run(t *testing.T, fresh func(t testing.TB) Place) {
	tests := []struct {
		name string
		test func(*testing.T, Place)
	}{
		{"Issue", testIssue},
		{"IssueRefusals", testIssueRefusals},
		{"Admit", testAdmit},
		{"Certificates", testCertificates},
		{"KeyHolder", testKeyHolder},
		{"TokenRace", testTokenRace},
		{"KeyRace", testKeyRace},
		{"AdmitRace", testAdmitRace},
		{"QuarantineRace", testQuarantineRace},
		{"Revoke", testRevoke},
		{"RevokeDevice", testRevokeDevice},
		{"RevokeKey", testRevokeKey},
		{"RevokeRace", testRevokeRace},
		{"Revocations", testRevocations},
		{"Lists", testLists},
		{"Poison", testPoison},
		{"GivingUp", testGivingUp},
		{"Import", testImport},
		{"ImportConflicts", testImportConflicts},
		{"ImportLarge", testImportLarge},
		{"Move", testMove},
		{"Devices", testDevices},
		{"Tokens", testTokens},
		{"Anchors", testAnchors},
		{"Held", testHeld},
		{"HeldRace", testHeldRace},
		{"Errands", testErrands},
		{"Bond", testBond},
		{"BondRefusals", testBondRefusals},
		{"BondJoins", testBondJoins},
		{"BondRace", testBondRace},
		{"RenewalRace", testRenewalRace},
		{"Attest", testAttest},
		{"Evidence", testEvidence},
		{"Baselines", testBaselines},
		{"Operators", testOperators},
		{"OperatorChanges", testOperatorChanges},
		{"OperatorRace", testOperatorRace},
		{"Seals", testSeals},
		{"Attempts", testAttempts},
		{"AttemptRace", testAttemptRace},
		{"Sessions", testSessions},
		{"SessionsEnd", testSessionsEnd},
		{"SessionRace", testSessionRace},
		{"Proposals", testProposals},
		{"Replays", testReplays},
		{"Differences", testDifferences},
		{"Turn", testTurn},
		{"TurnRace", testTurnRace},
		{"Tallies", testTallies},
		{"Spend", testSpend},
		{"SpendRace", testSpendRace},
		{"Kept", testKept},
		{"Secret", testSecret},
		{"Warden", testWarden},
		{"WardenRace", testWardenRace},
		{"Crowd", testCrowd},
		{"Journal", testJournal},
		{"Entries", testEntries},
		{"Filters", testFilters},
		{"CountDecisions", testCountDecisions},
		{"Shifts", testShifts},
		{"ShiftRace", testShiftRace},
		{"IndexAt", testIndexAt},
		{"Sequence", testSequence},
		{"SequenceRace", testSequenceRace},
		{"Reopen", testReopen},
		{"CloseInTheMiddle", testCloseInTheMiddle},
		{"Ping", testPing},
		{"OpenRace", testOpenRace},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) { c.test(t, fresh(t)) })
	}
}

// do fails the test on an error.
func do(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// want fails the test unless err is of that kind and has that code; an empty code is any.
func want(t testing.TB, err error, kind fault.Kind, code string) {
	t.Helper()
	if !fault.Is(err, kind) || code != "" && fault.Of(err).Code != code {
		t.Fatalf("got error %v (kind %v), want kind %v %s", err, fault.Of(err), kind, code)
	}
}

// register imports n devices and returns their ids.
func register(t testing.TB, db *store.DB, n int) []string {
	t.Helper()
	lines, ids := Lines(n)
	_, err := db.ChangeDevices(t.Context(), fleet.Change{Import: lines, At: Now, EventWith: importEvent})
	do(t, err)
	return ids
}

func importEvent(fleet.Imported) (audit.Event, error) { return Event("device.import", ""), nil }

// issue issues to the device over a fresh key.
func issue(t testing.TB, db *store.DB, device string) ca.Issuance {
	t.Helper()
	i := Issuance(t, device, Key(t))
	do(t, db.Issue(t.Context(), i))
	return i
}

// move moves a device, whatever its state.
func move(t testing.TB, db *store.DB, id string, to fleet.State) {
	t.Helper()
	_, err := db.ChangeDevices(t.Context(), fleet.Change{ID: id, To: to, At: Now, Reason: "test",
		From:      []fleet.State{fleet.Expected, fleet.Active, fleet.Quarantined},
		EventWith: func(fleet.Imported) (audit.Event, error) { return Event("device.move", id), nil }})
	do(t, err)
}

// together runs n calls at the same moment and returns their errors.
func together(n int, call func(i int) error) []error {
	errs := make([]error, n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			errs[i] = call(i)
		})
	}
	close(start)
	wg.Wait()
	return errs
}

// settled counts the calls without an error, and fails the test unless all
// others have one of this kind and code.
func settled(t testing.TB, errs []error, kind fault.Kind, code string) int {
	t.Helper()
	done := 0
	for _, err := range errs {
		if err == nil {
			done++
			continue
		}
		want(t, err, kind, code)
	}
	return done
}

// recorded reports whether the record holds the event.
func recorded(t testing.TB, db *store.DB, e *audit.Event) bool {
	t.Helper()
	entry, err := db.Entry(t.Context(), e.ID)
	if fault.Is(err, fault.NotFound) {
		return false
	}
	do(t, err)
	leaf, err := e.Leaf()
	do(t, err)
	if string(entry.Leaf) != string(leaf) {
		t.Fatalf("the record holds %s, want %s", entry.Leaf, leaf)
	}
	return true
}

func wantRecorded(t testing.TB, db *store.DB, e audit.Event, yes bool) {
	t.Helper()
	if recorded(t, db, &e) != yes {
		t.Fatalf("event %s: recorded is %v, want %v", e.ID, !yes, yes)
	}
}

// everything is all entries of the record, oldest first.
func everything(t testing.TB, db *store.DB) []audit.Entry {
	t.Helper()
	var all []audit.Entry
	q := audit.Query{Limit: 1000}
	for {
		page, err := db.Entries(context.Background(), q)
		do(t, err)
		all = append(all, page...)
		if len(page) < q.Limit {
			slices.Reverse(all)
			return all
		}
		q.Before = page[len(page)-1].Position
	}
}

func same[T any](t testing.TB, what string, got, want T) {
	t.Helper()
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
		t.Fatalf("%s:\n got %s\nwant %s", what, g, w)
	}
}
