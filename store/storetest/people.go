package storetest

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/operators"
	"github.com/hallmark-pki/hallmark/store"
)

// own is an operator's certificate.
func own(name string, at time.Time) operators.Certificate {
	var sum [32]byte
	rand.Read(sum[:])
	return operators.Certificate{SHA256: hex.EncodeToString(sum[:]), Serial: name + hex.EncodeToString(sum[:4]), Issued: at, NotAfter: at.Add(24 * time.Hour)}
}

// person is an operator's entry.
func person(name string) operators.Operator {
	return operators.Operator{Name: name, State: operators.Active, Binding: operators.Binding{Issuer: "https://id.test", Subject: "sub-" + name}, Created: Now, By: "admin", Changed: Now, ChangedBy: "admin",
		Roles: []operators.Role{{Name: "viewer"}, {Name: "line", Scope: operators.Scope{Model: "m", Labels: map[string]string{"site": "ulm"}}}}}
}

// hire takes operators in, and returns each one's first certificate.
func hire(t *testing.T, db *store.DB, names ...string) map[string]operators.Certificate {
	t.Helper()
	certificates := map[string]operators.Certificate{}
	for _, name := range names {
		c := own(name, Now)
		event := Event("operator.add", name)
		do(t, db.AddOperator(t.Context(), person(name), c, false, event))
		wantRecorded(t, db, event, true)
		certificates[name] = c
	}
	return certificates
}

func testOperators(t *testing.T, place Place) {
	db := place(t)
	first := person("admin")
	first.Binding = operators.Binding{}
	do(t, db.AddOperator(t.Context(), first, own("admin", Now), true, Event("operator.add", "admin")))
	event := Event("operator.add", "other")
	want(t, db.AddOperator(t.Context(), person("other"), own("other", Now), true, event), fault.Conflict, "operators_exist")
	wantRecorded(t, db, event, false)

	held := hire(t, db, "Zoe", "berta", "carl")
	event = Event("operator.add", "berta")
	again := person("berta")
	again.Binding = operators.Binding{}
	want(t, db.AddOperator(t.Context(), again, own("berta", Now), false, event), fault.Conflict, "operator_exists")
	wantRecorded(t, db, event, false)
	alike := person("bERTA")
	alike.Binding = operators.Binding{}
	want(t, db.AddOperator(t.Context(), alike, own("bERTA", Now), false, Event("operator.add", "bERTA")), fault.Conflict, "operator_alike")
	namesake := person("dora")
	namesake.Binding.Subject = "sub-berta"
	want(t, db.AddOperator(t.Context(), namesake, own("dora", Now), false, Event("operator.add", "dora")), fault.Conflict, "oidc_subject_in_use")

	for _, c := range []struct {
		filter operators.Filter
		want   []operators.Operator
	}{
		{operators.Filter{}, []operators.Operator{person("Zoe"), first, person("berta"), person("carl")}}, // as bytes sort
		{operators.Filter{Limit: 1}, []operators.Operator{person("Zoe")}},
		{operators.Filter{After: "berta"}, []operators.Operator{person("carl")}},
		{operators.Filter{Name: "berta"}, []operators.Operator{person("berta")}},
		{operators.Filter{State: operators.Removed}, nil},
	} {
		found, err := db.Operators(t.Context(), c.filter)
		do(t, err)
		same(t, fmt.Sprintf("%+v", c.filter), found, c.want)
	}

	o, c, err := db.OperatorByCertificate(t.Context(), held["berta"].SHA256)
	do(t, err)
	same(t, "caller", o, person("berta"))
	same(t, "certificate", c, held["berta"])
	_, _, err = db.OperatorByCertificate(t.Context(), own("x", Now).SHA256)
	want(t, err, fault.NotFound, "")
}

func testOperatorChanges(t *testing.T, place Place) {
	db, elsewhere := place(t), place(t)
	held := hire(t, db, "admin", "berta")
	change := func(c operators.Change) error {
		t.Helper()
		c.By, c.At = "admin", Now.Add(time.Minute)
		event := Event("operator.change", c.Name)
		err := db.ChangeOperator(t.Context(), c, event)
		wantRecorded(t, db, event, err == nil)
		return err
	}
	active := []operators.State{operators.Active}
	want(t, change(operators.Change{Name: "nobody", From: active}), fault.NotFound, "operator_unknown")
	want(t, change(operators.Change{Name: "berta", From: []operators.State{operators.Suspended}, To: operators.Active}), fault.Conflict, "operator_state")

	roles := []operators.Role{{Name: "auditor"}}
	do(t, change(operators.Change{Name: "berta", From: active, Roles: roles}))
	second := own("berta", Now.Add(time.Minute))
	do(t, change(operators.Change{Name: "berta", From: active, Certify: &second, Holding: held["berta"].SHA256}))
	want(t, change(operators.Change{Name: "berta", From: active, Certify: &second, Holding: held["admin"].SHA256}), fault.Denied, "certificate_revoked")
	want(t, change(operators.Change{Name: "berta", From: active, Revoke: held["admin"].Serial}), fault.NotFound, "operator_certificate_unknown")
	for _, reason := range []string{"stolen", "again"} { // a revoked one stays as it is
		do(t, change(operators.Change{Name: "berta", From: active, Revoke: held["berta"].Serial, Reason: reason}))
	}
	third := own("berta", Now)
	want(t, change(operators.Change{Name: "berta", From: active, Certify: &third, Holding: held["berta"].SHA256}), fault.Denied, "certificate_revoked")
	lost := held["berta"]
	lost.Revoked, lost.Reason = Now.Add(time.Minute).Truncate(time.Millisecond), "stolen"
	found, err := db.OperatorCertificates(t.Context(), "berta", 10)
	do(t, err)
	same(t, "certificates", found, []operators.Certificate{second, lost})

	do(t, change(operators.Change{Name: "berta", From: active, To: operators.Removed, Others: true, RevokeAll: true, Reason: "has left"}))
	o, c, err := elsewhere.OperatorByCertificate(t.Context(), second.SHA256) // at once, at every replica
	do(t, err)
	gone := person("berta")
	gone.Roles, gone.State, gone.Reason, gone.ChangedBy, gone.Changed = roles, operators.Removed, "has left", "admin", lost.Revoked
	same(t, "removed", o, gone)
	same(t, "its certificate is revoked", c.Revoked, lost.Revoked)
	want(t, change(operators.Change{Name: "admin", From: active, To: operators.Suspended, Others: true}), fault.Conflict, "last_operator")
}

// testOperatorRace: two who remove each other from two processes do not leave nobody.
func testOperatorRace(t *testing.T, place Place) {
	for range 10 {
		one, other := place(t), place(t)
		var names [2]string
		for i := range names {
			names[i] = "op-" + own("", Now).Serial
		}
		found, err := one.Operators(t.Context(), operators.Filter{State: operators.Active})
		do(t, err)
		hire(t, one, names[:]...)
		for _, o := range found { // whoever was left over from the race before
			do(t, one.ChangeOperator(t.Context(), operators.Change{Name: o.Name, From: []operators.State{operators.Active}, To: operators.Removed, At: Now}, Event("operator.remove", o.Name)))
		}
		var errs [2]error
		var both sync.WaitGroup
		for i, db := range []*store.DB{one, other} {
			both.Go(func() {
				errs[i] = db.ChangeOperator(t.Context(), operators.Change{Name: names[i], From: []operators.State{operators.Active},
					To: operators.Removed, Others: true, At: Now}, Event("operator.remove", names[i]))
			})
		}
		both.Wait()
		if (errs[0] == nil) == (errs[1] == nil) {
			t.Fatalf("both ended with %v and %v", errs[0], errs[1])
		}
	}
}

func testSeals(t *testing.T, place Place) {
	db := place(t)
	seal := func() operators.Seal {
		s := operators.Seal{ID: audit.NewID(Now).String(), Key: own("x", Now).SHA256, State: operators.Sealed, Created: Now, By: "admin"}
		do(t, db.AddSeal(t.Context(), s, Event("breakglass.seal", s.ID)))
		return s
	}
	first, second := seal(), seal()
	found, err := db.SealByKey(t.Context(), second.Key)
	do(t, err)
	same(t, "seal", found, second)
	found, err = db.SealByKey(t.Context(), first.Key)
	do(t, err)
	same(t, "the one before", found.State, operators.Replaced)
	_, err = db.SealByKey(t.Context(), own("x", Now).SHA256)
	want(t, err, fault.NotFound, "")

	opener := operators.Operator{Name: "breakglass-1", State: operators.Active, Roles: []operators.Role{}, Created: Now, Changed: Now,
		Breakglass: &operators.Opened{Seal: second.ID, Reason: "why", Opened: Now, Expires: Now.Add(time.Hour)}}
	c := own("b", Now)
	event := Event("breakglass.open", first.ID)
	want(t, db.OpenSeal(t.Context(), first.ID, opener, c, event), fault.Conflict, "seal_used")
	wantRecorded(t, db, event, false)
	do(t, db.OpenSeal(t.Context(), second.ID, opener, c, Event("breakglass.open", second.ID)))
	opener.Name = "breakglass-2"
	want(t, db.OpenSeal(t.Context(), second.ID, opener, own("b", Now), Event("breakglass.open", second.ID)), fault.Conflict, "seal_used")
	o, _, err := db.OperatorByCertificate(t.Context(), c.SHA256)
	do(t, err)
	same(t, "how they came", *o.Breakglass, *opener.Breakglass)

	// Who came by break-glass is nobody to leave the server to.
	hire(t, db, "admin")
	want(t, db.ChangeOperator(t.Context(), operators.Change{Name: "admin", From: []operators.State{operators.Active}, To: operators.Removed, Others: true, At: Now},
		Event("operator.remove", "admin")), fault.Conflict, "last_operator")
}
