package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hallmark-pki/hallmark/internal/estclient"
)

// TestMain lets scripts run this very program as "hallmark".
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"hallmark": func() { os.Exit(run(os.Args[1:])) }})
}

// TestScripts drives the command line against running servers. Besides the
// usual commands the scripts have those of the map below.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "ready": ready, "member": member, "enrol": enrol, "replace": replace, "maker": maker, "flip": flip,
		},
		Setup: func(e *testscript.Env) error {
			e.Setenv("TZ", "UTC")
			return nil
		},
	})
}

// exits N COMMAND ARGS… runs a command and checks its exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits N COMMAND ARGS…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var failed *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &failed) {
		got = failed.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// ready DIR waits until the server of a data directory is ready.
func ready(ts *testscript.TestScript, neg bool, args []string) {
	var at struct{ Status string }
	for range 300 {
		text, err := os.ReadFile(ts.MkAbs(filepath.Join(args[0], runFile)))
		if err == nil && json.Unmarshal(text, &at) == nil {
			if response, err := http.Get(at.Status + "/readyz"); err == nil {
				response.Body.Close()
				if response.StatusCode == http.StatusOK {
					return
				}
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("the server of %s did not get ready", args[0])
}

// member PATH [VAR] checks that the JSON on standard output has something at the
// dotted path, and keeps it in the environment.
func member(ts *testscript.TestScript, neg bool, args []string) {
	var v any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &v))
	for _, name := range strings.Split(args[0], ".") {
		switch at := v.(type) {
		case map[string]any:
			v = at[name]
		case []any:
			n, err := strconv.Atoi(name)
			if v = nil; err == nil && n < len(at) {
				v = at[n]
			}
		default:
			v = nil
		}
	}
	switch {
	case (v == nil) != neg:
		ts.Fatalf("%s is %v", args[0], v)
	case len(args) > 1:
		ts.Setenv(args[1], fmt.Sprint(v))
	}
}

// enrol DIR DEVICE TOKEN enrols a device, whose key is the same for the whole
// script, and keeps the serial number in $SERIAL or the refusal in the file "refusal".
func enrol(ts *testscript.TestScript, neg bool, args []string) {
	dir := ts.MkAbs(args[0])
	server, err := serverURL(dir)
	ts.Check(err)
	roots := x509.NewCertPool()
	root, err := os.ReadFile(filepath.Join(dir, rootFile))
	ts.Check(err)
	roots.AppendCertsFromPEM(root)
	client := &estclient.Client{Server: server, Roots: roots, User: args[1], Password: args[2]}
	session, err := client.Open(context.Background())
	ts.Check(err)
	defer session.Close()
	csr, err := (&estclient.Request{Key: deviceKey(ts, args[1])}).DER()
	ts.Check(err)
	cert, err := session.Enroll(context.Background(), csr)
	if (err != nil) != neg {
		ts.Fatalf("enrolling: %v", err)
	}
	if err != nil {
		ts.Check(os.WriteFile(ts.MkAbs("refusal"), []byte(err.Error()), 0o600))
		return
	}
	ts.Setenv("SERIAL", hex.EncodeToString(cert.SerialNumber.Bytes()))
}

func deviceKey(ts *testscript.TestScript, device string) *ecdsa.PrivateKey {
	file := ts.MkAbs(device + ".key")
	if der, err := os.ReadFile(file); err == nil {
		key, err := x509.ParseECPrivateKey(der)
		ts.Check(err)
		return key
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	der, err := x509.MarshalECPrivateKey(key)
	ts.Check(err)
	ts.Check(os.WriteFile(file, der, 0o600))
	return key
}

// replace FILE OLD NEW edits a file.
func replace(ts *testscript.TestScript, neg bool, args []string) {
	file := ts.MkAbs(args[0])
	text, err := os.ReadFile(file)
	ts.Check(err)
	if !strings.Contains(string(text), args[1]) {
		ts.Fatalf("%s does not contain %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(file, []byte(strings.Replace(string(text), args[1], args[2], 1)), 0o600))
}

// flip FILE changes one bit in the middle of a file.
func flip(ts *testscript.TestScript, neg bool, args []string) {
	file := ts.MkAbs(args[0])
	text, err := os.ReadFile(file)
	ts.Check(err)
	text[len(text)/2] ^= 1
	ts.Check(os.WriteFile(file, text, 0o600))
}

// maker FILE NAME writes the certificate of a maker's authority.
func maker(ts *testscript.TestScript, neg bool, args []string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: args[1]}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
}
