package rego

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/bundle"

	"github.com/hallmark-pki/hallmark/policy"
)

func mustKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func mustPack(t testing.TB, seal *Seal) []byte {
	t.Helper()
	b, err := ReadDir(writeDefault(t))
	if err != nil {
		t.Fatal(err)
	}
	packed, err := b.Pack(seal)
	if err != nil {
		t.Fatal(err)
	}
	return packed
}

func trusting(id string, key *ecdsa.PrivateKey) *Trust {
	return &Trust{Keys: map[string]crypto.PublicKey{id: &key.PublicKey}}
}

func TestBundleDecidesAsItsDirectory(t *testing.T) {
	key := mustKey(t)
	seal := &Seal{Key: key, KeyID: "release"}
	packed := mustPack(t, seal)
	if !bytes.Equal(packed, mustPack(t, seal)) {
		t.Error("the same files give other bytes")
	}
	e, err := LoadBundle(context.Background(), packed, trusting("release", key))
	if err != nil {
		t.Fatal(err)
	}
	if want := mustLoad(t, writeDefault(t)).Digest(); e.Digest() != want || e.Revision() != want {
		t.Errorf("got %s, revision %s, want %s", e.Digest(), e.Revision(), want)
	}
	if a, err := e.Evaluate(context.Background(), enrolment()); err != nil || a.Verdict != policy.Allow {
		t.Errorf("got %v, %v", a.Verdict, err)
	}
	if e.Settings()["roles"] == nil {
		t.Error("no settings")
	}
	if err := e.Reload(context.Background()); err == nil {
		t.Error("a bundle was read again")
	}
}

// OPA's own reader verifies and reads what is written here.
func TestOPAReadsSignedBundles(t *testing.T) {
	key := mustKey(t)
	packed := mustPack(t, &Seal{Key: key, KeyID: "release", Scope: "gateways"})
	trust := trusting("release", key)
	trust.Scope = "gateways"
	config, err := trust.config()
	if err != nil {
		t.Fatal(err)
	}
	read, err := bundle.NewReader(bytes.NewReader(packed)).WithBundleVerificationConfig(config).Read()
	if err != nil || len(read.Modules) < 4 || read.Manifest.Revision == "" {
		t.Errorf("got %d modules, %v", len(read.Modules), err)
	}
	if _, err := bundle.NewReader(bytes.NewReader(packed)).Read(); err == nil {
		t.Error("OPA takes a signed bundle without a key")
	}
}

// edit packs the bundle anew after f has changed its files.
func edit(t *testing.T, packed []byte, f func(name string, text []byte) []byte) []byte {
	t.Helper()
	in, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	from, to := tar.NewReader(in), tar.NewWriter(zipped)
	for {
		header, err := from.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(from)
		if err != nil {
			t.Fatal(err)
		}
		if text = f(header.Name, text); text == nil {
			continue
		}
		header.Size = int64(len(text))
		if err := to.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := to.Write(text); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(to.Close(), zipped.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestBundlesThatAreNotToBeTrusted(t *testing.T) {
	key, other := mustKey(t), mustKey(t)
	signed := mustPack(t, &Seal{Key: key, KeyID: "release"})
	without := func(missing string) []byte {
		return edit(t, signed, func(name string, text []byte) []byte {
			if name == missing {
				return nil
			}
			return text
		})
	}
	scoped := trusting("release", key)
	scoped.Scope = "gateways"
	for name, test := range map[string]struct {
		packed []byte
		trust  *Trust
		says   string
	}{
		"unsigned":       {mustPack(t, nil), trusting("release", key), "not signed"},
		"wrong key":      {signed, trusting("release", other), "verify"},
		"unknown key":    {signed, trusting("other", key), "not found"},
		"other scope":    {signed, scoped, "scope"},
		"signature gone": {without("/" + signaturesFile), trusting("release", key), "not signed"},
		"file gone":      {without("/operators.rego"), trusting("release", key), "operators.rego is signed and is not"},
		"tampered": {edit(t, signed, func(name string, text []byte) []byte {
			return bytes.ReplaceAll(text, []byte(`"quarantined"`), []byte(`"Quarantined"`))
		}), trusting("release", key), "digest mismatch"},
	} {
		t.Run(name, func(t *testing.T) {
			var problems Problems
			if _, err := ReadBundle(test.packed, test.trust); !errors.As(err, &problems) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %q", err, test.says)
			}
		})
	}
}

// archive is a bundle of whatever headers and texts.
func archive(t *testing.T, n int, name func(int) string, size int) []byte {
	t.Helper()
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	to := tar.NewWriter(zipped)
	text := bytes.Repeat([]byte(" "), size)
	for i := range n {
		if err := to.WriteHeader(&tar.Header{Name: name(i), Size: int64(size), Mode: 0o600, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := to.Write(text); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(to.Close(), zipped.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestBundlesThatAreTooMuch(t *testing.T) {
	named := func(name string) func(int) string { return func(int) string { return name } }
	many := func(i int) string { return "f" + strings.Repeat("x", i) + ".rego" }
	for name, test := range map[string]struct {
		packed []byte
		says   string
	}{
		"no archive":    {[]byte("hello"), "not an OPA bundle"},
		"too large":     {make([]byte, MaxPacked+1), "at most"},
		"50 MB of data": {archive(t, 1, named("data.json"), 50<<20), "larger than 4096 KiB"},
		"many files":    {archive(t, maxFiles+1, many, 1), "more than 256 policy files"},
		"twice":         {archive(t, 2, named("a.rego"), 1), "twice"},
		"outside":       {archive(t, 1, named("../a.rego"), 1), "no name for a file"},
		"delta":         {archive(t, 1, named("patch.json"), 1), "delta bundle"},
		"compiled":      {archive(t, 1, named("policy.wasm"), 1), "compiled rules"},
		"cut off":       {archive(t, 1, named("a.rego"), 1)[:20], "not an OPA bundle"},
	} {
		t.Run(name, func(t *testing.T) {
			var problems Problems
			if _, err := ReadBundle(test.packed, nil); !errors.As(err, &problems) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %q", err, test.says)
			}
		})
	}
}

// Bundles come from the network.
func FuzzReadBundle(f *testing.F) {
	f.Add([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"))
	f.Add(mustPack(f, &Seal{Key: mustKey(f), KeyID: "release"}))
	trust := trusting("release", mustKey(f))
	f.Fuzz(func(t *testing.T, data []byte) {
		if b, err := ReadBundle(data, nil); err == nil {
			_, _ = b.Pack(nil)
			_ = b.Settings()
		}
		if _, err := ReadBundle(data, trust); err == nil {
			t.Error("a bundle was trusted that nobody signed")
		}
	})
}
