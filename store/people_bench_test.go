package store_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/operators"
	"github.com/hallmark-pki/hallmark/store"
	"github.com/hallmark-pki/hallmark/store/storetest"
)

// BenchmarkOperatorByCertificate is what every request of an operator pays to
// find out whether they are still one, in a register of 200 with a certificate a day.
func BenchmarkOperatorByCertificate(b *testing.B) {
	for name, place := range map[string]func(testing.TB) storetest.Place{"SQLite": embedded, "PostgreSQL": replicated} {
		b.Run(name, func(b *testing.B) {
			db := place(b)(b)
			keys := fillRegister(b, db, 200, 10)
			b.ResetTimer()
			for n := range b.N {
				if _, _, err := db.OperatorByCertificate(b.Context(), keys[n%len(keys)]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// fillRegister takes operators in with some certificates each, and returns the certificates' SHA-256.
func fillRegister(b *testing.B, db *store.DB, people, certificates int) []string {
	b.Helper()
	var keys []string
	certificate := func() operators.Certificate {
		sum := sha256.Sum256(fmt.Appendf(nil, "%d", len(keys)))
		keys = append(keys, hex.EncodeToString(sum[:]))
		return operators.Certificate{SHA256: keys[len(keys)-1], Serial: keys[len(keys)-1][:16], Issued: storetest.Now, NotAfter: storetest.Now.Add(24 * time.Hour)}
	}
	for n := range people {
		o := operators.Operator{Name: fmt.Sprintf("op-%d", n), State: operators.Active, Roles: []operators.Role{{Name: "viewer"}}, Created: storetest.Now, Changed: storetest.Now}
		err := db.AddOperator(b.Context(), o, certificate(), false, storetest.Event("operator.add", o.Name))
		for range certificates - 1 {
			c := certificate()
			if err == nil {
				err = db.ChangeOperator(b.Context(), operators.Change{Name: o.Name, From: []operators.State{operators.Active}, Certify: &c, At: storetest.Now}, storetest.Event("operator.renew", o.Name))
			}
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	return keys
}
