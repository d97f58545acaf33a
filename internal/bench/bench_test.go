package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/internal/housetest"
)

// TestSmoke runs every scenario a few times against the real server, so that
// the bench cannot rot. It asserts nothing about speed.
func TestSmoke(t *testing.T) {
	program := filepath.Join(t.TempDir(), "bench")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	bench := exec.Command(program, "-smoke", "-floor-noverify",
		"-hallmark", housetest.Binary(t, "hallmark"), "-dir", t.TempDir())
	out, err := bench.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"fresh, token", "fresh, factory cert", "kept alive", "renewal", "open loop",
		"commit batches", "resident memory", "disk per certificate", "start to certificate"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the report lacks %q:\n%s", want, out)
		}
	}
}

func TestPercentile(t *testing.T) {
	var d []time.Duration
	for i := 100; i > 0; i-- {
		d = append(d, time.Duration(i))
	}
	for p, want := range map[int]time.Duration{50: 50, 99: 99, 100: 100} {
		if got := percentile(d, p); got != want {
			t.Errorf("p%d of 1…100 is %d, want %d", p, got, want)
		}
	}
	if got := percentile(nil, 99); got != 0 {
		t.Errorf("p99 of nothing is %d", got)
	}
}

// TestUnverified holds the hand-made certificate against the library's parser
// and the issuer's key.
func TestUnverified(t *testing.T) {
	issuer, err := newCA("Issuer", nil)
	if err != nil {
		t.Fatal(err)
	}
	devices, err := newIdentities(0, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, noVerify := range []bool{false, true} {
		f := &floor{key: issuer.key, issuer: issuer.cert, noVerify: noVerify}
		csr, err := parse(devices[0].body)
		if err != nil {
			t.Fatal(err)
		}
		der, err := f.sign(csr)
		if err != nil {
			t.Fatal(err)
		}
		d := *devices[0]
		d.reply = answerBody(der)
		if err := settle([]*identity{&d}); err != nil {
			t.Fatalf("noVerify %v: %v", noVerify, err)
		}
		cert, err := certificateIn(answerBody(der))
		if err != nil {
			t.Fatal(err)
		}
		if err := cert.CheckSignatureFrom(issuer.cert); err != nil {
			t.Errorf("noVerify %v: %v", noVerify, err)
		}
		if got := cert.URIs[0].Path; got != "/device/bench-000001" {
			t.Errorf("noVerify %v: named %s", noVerify, got)
		}
	}
}
