package storetest

import (
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/operators"
	"github.com/hallmark-pki/hallmark/store"
)

// visit is a session of an operator that begins so long after Now. Ids rise with time.
func visit(name string, after time.Duration) operators.NewSession {
	at := Now.Add(after)
	s := operators.Session{ID: audit.NewID(at).String(), Operator: name, Kind: operators.Browser, Source: "192.0.2.1",
		Login:   operators.Login{Issuer: "https://id.test", Subject: "sub-" + name, AMR: []string{"pwd", "otp"}, ACR: "2", Time: at},
		Created: at, Used: at, Expires: at.Add(8 * time.Hour)}
	return operators.NewSession{Session: s, Hash: sha256.Sum256([]byte(s.ID)), Stale: at.Add(-30 * time.Minute), Most: 3}
}

// signIn adds the session.
func signIn(t testing.TB, db *store.DB, s operators.NewSession) operators.NewSession {
	t.Helper()
	event := Event("session.create", s.ID)
	do(t, db.AddSession(t.Context(), s, event))
	wantRecorded(t, db, event, true)
	return s
}

// wantSession checks whether the session lives.
func wantSession(t testing.TB, db *store.DB, s operators.NewSession, lives bool) {
	t.Helper()
	_, _, err := db.OperatorBySession(t.Context(), s.Hash)
	if lives {
		do(t, err)
		return
	}
	want(t, err, fault.NotFound, "")
}

func testSessions(t *testing.T, place Place) {
	db, replica := place(t), place(t)
	hire(t, db, "berta", "carl")
	first := signIn(t, db, visit("berta", 0))
	o, s, err := replica.OperatorBySession(t.Context(), first.Hash)
	do(t, err)
	same(t, "operator", o, person("berta"))
	same(t, "session", s, first.Session)
	_, _, err = db.OperatorBySession(t.Context(), [32]byte{1})
	want(t, err, fault.NotFound, "")

	later := first.Used.Add(20 * time.Minute)
	do(t, db.TouchSession(t.Context(), s.ID, later))
	do(t, db.TouchSession(t.Context(), s.ID, first.Used.Add(time.Minute))) // a replica that is behind
	first.Used = later
	second, others := signIn(t, db, visit("berta", 25*time.Minute)), signIn(t, db, visit("carl", 26*time.Minute))
	for _, c := range []struct {
		filter operators.SessionFilter
		want   []operators.Session
	}{
		{operators.SessionFilter{}, []operators.Session{others.Session, second.Session, first.Session}},
		{operators.SessionFilter{Limit: 1}, []operators.Session{others.Session}},
		{operators.SessionFilter{Before: second.ID}, []operators.Session{first.Session}},
		{operators.SessionFilter{Operator: "berta"}, []operators.Session{second.Session, first.Session}},
		{operators.SessionFilter{ID: second.ID}, []operators.Session{second.Session}},
		{operators.SessionFilter{Stale: later}, []operators.Session{others.Session, second.Session}},
		{operators.SessionFilter{Expiring: second.Expires}, []operators.Session{others.Session}},
	} {
		found, err := db.Sessions(t.Context(), c.filter)
		do(t, err)
		same(t, fmt.Sprintf("%+v", c.filter), found, c.want)
	}

	event := Event("session.end", second.ID)
	do(t, db.EndSession(t.Context(), second.ID, event))
	wantRecorded(t, db, event, true)
	wantSession(t, replica, second, false)
	event = Event("session.end", second.ID)
	want(t, db.EndSession(t.Context(), second.ID, event), fault.NotFound, "session_unknown")
	wantRecorded(t, db, event, false)

	signIn(t, db, visit("carl", time.Hour)) // sweeps away what nobody has used for half an hour
	wantSession(t, db, first, false)
	wantSession(t, db, others, false)
	var last operators.NewSession
	for n := range 4 { // the oldest of four makes room
		next := signIn(t, db, visit("berta", time.Hour+time.Duration(n)*time.Minute))
		if n == 0 {
			last = next
		}
		wantSession(t, db, last, n < 3)
	}
}

// testSessionsEnd: who is barred or bound anew is signed in no more, and not again by what was known before.
func testSessionsEnd(t *testing.T, place Place) {
	db, replica := place(t), place(t)
	hire(t, db, "admin", "berta")
	ends := func(c operators.Change, ended bool) {
		t.Helper()
		s := signIn(t, db, visit("berta", 0))
		c.Name, c.At, c.By = "berta", Now, "admin"
		c.From = []operators.State{operators.Active, operators.Suspended}
		do(t, db.ChangeOperator(t.Context(), c, Event("operator.change", "berta")))
		wantSession(t, replica, s, !ended)
		do(t, db.ChangeOperator(t.Context(), operators.Change{Name: "berta", From: c.From, To: operators.Active, At: Now}, Event("operator.resume", "berta")))
		wantSession(t, replica, s, !ended)
	}
	ends(operators.Change{Roles: []operators.Role{{Name: "viewer"}}}, false)
	ends(operators.Change{To: operators.Suspended}, true)
	ends(operators.Change{RevokeAll: true}, true)
	ends(operators.Change{Bind: &operators.Binding{Issuer: "https://id.test", Email: "berta@example.com"}}, true)

	refused := func(s operators.NewSession) {
		t.Helper()
		event := Event("session.create", s.ID)
		want(t, db.AddSession(t.Context(), s, event), fault.Denied, "operator_unbound")
		wantRecorded(t, db, event, false)
		wantSession(t, db, s, false)
	}
	s := visit("berta", time.Minute)
	refused(s) // the address is bound now, and not yet this subject
	s.Pin = true
	refused(s) // and the provider has not vouched for the address
	s.Login.Email = "berta@example.com"
	for subject, found := range map[string]bool{"sub-berta": true, "sub-admin": true, "other": false} {
		_, err := db.OperatorByLogin(t.Context(), "https://id.test", subject, "")
		if found = found && subject != "sub-berta"; !found {
			want(t, err, fault.NotFound, "")
		}
	}
	o, err := db.OperatorByLogin(t.Context(), "https://id.test", "sub-berta", "berta@example.com")
	do(t, err)
	same(t, "by email", o.Name, "berta")
	signIn(t, db, s)
	o, err = db.OperatorByLogin(t.Context(), "https://id.test", "sub-berta", "")
	do(t, err)
	same(t, "pinned", o.Binding.Subject, "sub-berta")
	for issuer, subject := range map[string]string{"https://id.test": "thief", "https://other.test": "sub-berta"} {
		_, err = db.OperatorByLogin(t.Context(), issuer, subject, "berta@example.com") // the address has changed hands, or another provider says so
		want(t, err, fault.NotFound, "")
	}
	other := visit("berta", 2*time.Minute)
	other.Pin, other.Login.Subject, other.Login.Email = true, "thief", "berta@example.com"
	refused(other)
	other = visit("berta", 2*time.Minute)
	other.Login.Issuer = "https://other.test"
	refused(other)
	for code, b := range map[string]operators.Binding{"oidc_subject_in_use": {Issuer: "https://id.test", Subject: "sub-berta"},
		"oidc_email_in_use": {Issuer: "https://id.test", Email: "berta@example.com"}} {
		err := db.ChangeOperator(t.Context(), operators.Change{Name: "admin", From: []operators.State{operators.Active}, Bind: &b, At: Now}, Event("operator.assign", "admin"))
		want(t, err, fault.Conflict, code)
	}
}

// testSessionRace: of signing in and being suspended at the same moment, being suspended wins.
func testSessionRace(t *testing.T, place Place) {
	db, replica := place(t), place(t)
	hire(t, db, "admin", "berta")
	s := visit("berta", 0)
	together(2, func(i int) error {
		if i == 0 {
			return replica.AddSession(t.Context(), s, Event("session.create", s.ID))
		}
		return db.ChangeOperator(t.Context(), operators.Change{Name: "berta", From: []operators.State{operators.Active}, To: operators.Suspended, Others: true, At: Now},
			Event("operator.suspend", "berta"))
	})
	wantSession(t, db, s, false)
}
