package rego

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// rawTar packs files as they are named, in the order of their names.
func rawTar(t testing.TB, files map[string]string) []byte {
	t.Helper()
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	to := tar.NewWriter(zipped)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := to.WriteHeader(&tar.Header{Name: name, Size: int64(len(files[name])), Mode: 0o600, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := to.Write([]byte(files[name])); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(to.Close(), zipped.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// holes is a bundle of a file that is a terabyte large and takes up next to nothing
// (GNU's sparse format 0.1 in PAX records).
func holes(t testing.TB) []byte {
	t.Helper()
	record := func(key, value string) string {
		text := " " + key + "=" + value + "\n"
		n := len(text) + 2
		for len(fmt.Sprint(n))+len(text) != n {
			n++
		}
		return fmt.Sprint(n) + text
	}
	records := record("GNU.sparse.major", "0") + record("GNU.sparse.minor", "1") + record("GNU.sparse.name", "data.json") +
		record("GNU.sparse.size", "1099511627776") + record("GNU.sparse.numblocks", "1") + record("GNU.sparse.map", "0,1")
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	block := func(name string, kind byte, text string) {
		header := make([]byte, 512)
		copy(header, name)
		copy(header[100:], "0000600\x000000000\x000000000\x00")
		copy(header[124:], fmt.Sprintf("%011o\x00%011o\x00        ", len(text), 0))
		header[156] = kind
		copy(header[257:], "ustar\x0000")
		sum := 0
		for _, b := range header {
			sum += int(b)
		}
		copy(header[148:], fmt.Sprintf("%06o\x00 ", sum))
		zipped.Write(header)
		zipped.Write([]byte(text))
		zipped.Write(make([]byte, (512-len(text)%512)%512))
	}
	block("pax", 'x', records)
	block("data.json", '0', "{")
	zipped.Write(make([]byte, 1024))
	if err := zipped.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

const someRules = "package a\n\nb := 1\n"

func TestHostileBundles(t *testing.T) {
	manifest := func(text string) []byte {
		return rawTar(t, map[string]string{"/.manifest": text, "/a/a.rego": someRules, "/data.json": `{"c":{"d":1,"e":2}}`})
	}
	tiny := map[string]string{}
	for i := range maxEntries + 1 {
		tiny[fmt.Sprintf("notes/%d.txt", i)] = ""
	}
	linked := func(kind byte) []byte {
		var out bytes.Buffer
		zipped := gzip.NewWriter(&out)
		to := tar.NewWriter(zipped)
		to.WriteHeader(&tar.Header{Name: "data.json", Linkname: "/etc/passwd", Typeflag: kind})
		to.Close()
		zipped.Close()
		return out.Bytes()
	}
	for name, test := range map[string]struct {
		packed []byte
		says   string
	}{
		"a terabyte of holes":     {holes(t), "larger than"},
		"thousands of files":      {rawTar(t, tiny), "more than 4096 files"},
		"above the top":           {rawTar(t, map[string]string{"a/../../b.rego": someRules}), "no name for a file"},
		"above, in disguise":      {rawTar(t, map[string]string{"./../b.rego": someRules}), "no name for a file"},
		"absolute twice":          {rawTar(t, map[string]string{"//etc/b.rego": someRules}), "no name for a file"},
		"twice, in disguise":      {rawTar(t, map[string]string{"/a.rego": someRules, "./a.rego": someRules}), "twice"},
		"a backslash":             {rawTar(t, map[string]string{`x\a.rego`: someRules}), "no place in a file name"},
		"a symbolic link":         {linked(tar.TypeSymlink), "regular files"},
		"a hard link":             {linked(tar.TypeLink), "regular files"},
		"a device":                {linked(tar.TypeChar), "regular files"},
		"data in two places":      {rawTar(t, map[string]string{"data.json": "{}", "x/data.json": "{}"}), "at the top"},
		"two kinds of data":       {rawTar(t, map[string]string{"data.json": "{}", "data.yaml": "{}"}), "one data file"},
		"WebAssembly, announced":  {manifest(`{"wasm":[{"entrypoint":"a/b","module":"/policy.bin"}]}`), "compiled rules"},
		"rules of an older Rego":  {manifest(`{"rego_version":0}`), "must be 1"},
		"one file of an older":    {manifest(`{"file_rego_versions":{"/a/*.rego":0}}`), "must be 1"},
		"a manifest of nothing":   {manifest(`[]`), ".manifest"},
		"roots that overlap":      {manifest(`{"roots":["a","a/b"]}`), "overlap"},
		"rules outside the roots": {manifest(`{"roots":["c"]}`), "package a lies outside"},
		"data outside the roots":  {manifest(`{"roots":["a","c/d"]}`), "c/e lies outside"},
		"roots without end":       {manifest(`{"roots":["` + strings.Repeat(`a","`, maxRoots) + `b"]}`), "more than 256 roots"},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := ReadBundle(test.packed, nil)
			runtime.ReadMemStats(&after)
			var problems Problems
			if !errors.As(err, &problems) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %q", err, test.says)
			}
			if spent := after.TotalAlloc - before.TotalAlloc; spent > 64<<20 {
				t.Errorf("%d MiB were spent on it", spent>>20)
			}
		})
	}
	for name, packed := range map[string][]byte{
		"roots that hold": manifest(`{"roots":["/a/","c"]}`), "deeper roots": manifest(`{"roots":["a","c/d","c/e"]}`),
		"no roots": manifest(`{}`), "one root for all": manifest(`{"roots":[""]}`), "packed by hand": rawTar(t, map[string]string{"./.manifest": `{"revision":"r"}`, "./a.rego": someRules}),
	} {
		if _, err := ReadBundle(packed, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// forged is the signature of files in whatever way somebody likes.
type forged struct {
	header string
	digest func(text []byte) (algorithm, hash string)
	extra  string // a claim
	sign   func(input []byte) []byte
}

func (f *forged) bundle(t testing.TB, files map[string]string) []byte {
	t.Helper()
	var listed []map[string]string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		algorithm, hash := f.digest([]byte(files[name]))
		listed = append(listed, map[string]string{"name": name, "algorithm": algorithm, "hash": hash})
	}
	text, err := json.Marshal(listed)
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	input := encode([]byte(f.header)) + "." + encode([]byte(`{"files":`+string(text)+f.extra+`}`))
	signatures, err := json.Marshal(map[string]any{"signatures": []string{input + "." + encode(f.sign([]byte(input)))}})
	if err != nil {
		t.Fatal(err)
	}
	signed := maps.Clone(files)
	signed[signaturesFile] = string(signatures)
	return rawTar(t, signed)
}

func sha(text []byte) (string, string) {
	sum := sha256.Sum256(text)
	return "SHA-256", hex.EncodeToString(sum[:])
}

// es256 signs as RFC 7518, Section 3.4 says.
func es256(t testing.TB, key *ecdsa.PrivateKey) func([]byte) []byte {
	return func(input []byte) []byte {
		digest := sha256.Sum256(input)
		r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	}
}

func TestSignaturesThatAreNone(t *testing.T) {
	key := mustKey(t)
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	files := map[string]string{"a.rego": someRules}
	trust := trusting("release", key)
	good := forged{`{"alg":"ES256","kid":"release"}`, sha, "", es256(t, key)}
	if _, err := ReadBundle(good.bundle(t, files), trust); err != nil {
		t.Fatalf("a good signature: %v", err)
	}
	with := func(change func(*forged)) []byte {
		f := good
		change(&f)
		return f.bundle(t, files)
	}
	again := func(change func(files map[string]string)) []byte {
		return edit(t, good.bundle(t, files), func(name string, text []byte) []byte {
			one := map[string]string{name: string(text)}
			change(one)
			if len(one) == 0 {
				return nil
			}
			return []byte(one[name])
		})
	}
	unlisted := map[string]string{"a.rego": someRules, "b.rego": "package b\n"}
	signed := good.bundle(t, files)
	for name, packed := range map[string][]byte{
		"alg none": with(func(f *forged) {
			f.header, f.sign = `{"alg":"none","kid":"release"}`, func([]byte) []byte { return nil }
		}),
		"no signature": with(func(f *forged) { f.sign = func([]byte) []byte { return nil } }),
		"zeros":        with(func(f *forged) { f.sign = func([]byte) []byte { return make([]byte, 64) } }),
		"the public key as a secret": with(func(f *forged) {
			f.header = `{"alg":"HS256","kid":"release"}`
			f.sign = func(input []byte) []byte {
				m := hmac.New(sha256.New, public)
				m.Write(input)
				return m.Sum(nil)
			}
		}),
		"a key of its own": with(func(f *forged) {
			other := mustKey(t)
			x, y := other.X.Bytes(), other.Y.Bytes()
			f.header = fmt.Sprintf(`{"alg":"ES256","jwk":{"kty":"EC","crv":"P-256","x":%q,"y":%q}}`, base64.RawURLEncoding.EncodeToString(x), base64.RawURLEncoding.EncodeToString(y))
			f.sign = es256(t, other)
		}),
		"a scope": with(func(f *forged) { f.extra = `,"scope":"write"` }),
		"weak digests": with(func(f *forged) {
			f.digest = func(text []byte) (string, string) {
				sum := md5.Sum(text)
				return "MD5", hex.EncodeToString(sum[:])
			}
		}),
		"no digests":       with(func(f *forged) { f.digest = func([]byte) (string, string) { return "", "" } }),
		"unknown digests":  with(func(f *forged) { f.digest = func([]byte) (string, string) { return "CRC-32", "00" } }),
		"a file more":      rawTar(t, func() map[string]string { unlisted[signaturesFile] = signaturesOf(t, signed); return unlisted }()),
		"a file less":      again(func(f map[string]string) { delete(f, "a.rego") }),
		"no token":         again(func(f map[string]string) { swap(f, `{"signatures":[]}`) }),
		"two tokens":       again(func(f map[string]string) { swap(f, `{"signatures":["a.b.c","a.b.c"]}`) }),
		"no JWT":           again(func(f map[string]string) { swap(f, `{"signatures":["....."]}`) }),
		"a plugin's words": again(func(f map[string]string) { swap(f, `{"signatures":["a.b.c"],"plugin":"mine"}`) }),
		"not JSON":         again(func(f map[string]string) { swap(f, `signatures`) }),
	} {
		t.Run(name, func(t *testing.T) {
			var problems Problems
			b, err := ReadBundle(packed, trust)
			if !errors.As(err, &problems) || b != nil {
				t.Fatalf("taken: %v", err)
			}
			t.Log(err)
			if _, err := ReadBundle(packed, &Trust{Keys: trust.Keys, Unsigned: true}); err == nil {
				t.Error("taken where unsigned bundles are")
			}
		})
	}
}

// swap replaces the signatures.
func swap(files map[string]string, text string) {
	if _, is := files[signaturesFile]; is {
		files[signaturesFile] = text
	}
}

func signaturesOf(t testing.TB, packed []byte) string {
	t.Helper()
	files, err := unpack(packed)
	if err != nil {
		t.Fatal(err)
	}
	return string(files[signaturesFile])
}

// TestKeysThatSignBundles: those that opa build can use and that are strong enough; nothing else.
func TestKeysThatSignBundles(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	large, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		key  crypto.PublicKey
		good bool
	}{{mustKey(t).Public(), true}, {p384.Public(), true}, {large.Public(), true}, {p521.Public(), false}} {
		der, err := x509.MarshalPKIXPublicKey(test.key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseKey(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})); (err == nil) != test.good {
			t.Errorf("%T: %v", test.key, err)
		}
	}
	der, err := x509.MarshalPKCS8PrivateKey(p384)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseKey(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})); err == nil || strings.Contains(err.Error(), "ASN") {
		t.Errorf("a private key: %v", err)
	}
	signs := forged{`{"alg":"RS256"}`, sha, "", func(input []byte) []byte {
		digest := sha256.Sum256(input)
		s, err := rsa.SignPKCS1v15(rand.Reader, large, crypto.SHA256, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		return s
	}}
	both := &Trust{Keys: map[string]crypto.PublicKey{"a": p384.Public(), "b": large.Public()}}
	if _, err := ReadBundle(signs.bundle(t, map[string]string{"a.rego": someRules}), both); err != nil {
		t.Errorf("a token that names no key, as opa build writes it: %v", err)
	}
}

// FuzzBundleFiles reads bundles that are packed well and hold whatever there is, as a fuzzer that changes
// packed bytes seldom gets past their checksums.
func FuzzBundleFiles(f *testing.F) {
	key := mustKey(f)
	signer := forged{`{"alg":"ES256","kid":"release"}`, sha, "", es256(f, key)}
	f.Add("/.manifest", `{"roots":["a"],"revision":"r"}`, "a/a.rego", someRules, `{"signatures":["a.b.c"]}`)
	f.Add("data.yaml", "a: &x [1, *x]", "./../a.rego", someRules, "")
	f.Add("data.json", `{"a":{"a":1}}`, "patch.json", `{"data":[]}`, signaturesOf(f, signer.bundle(f, map[string]string{"data.json": `{"a":{"a":1}}`})))
	trust := trusting("release", mustKey(f))
	f.Fuzz(func(t *testing.T, one, first, two, second, signatures string) {
		if strings.ContainsRune(one+two, 0) || strings.HasSuffix(one, "/") || strings.HasSuffix(two, "/") || len(one)+len(two) > 1<<10 || one == two {
			return // no name that a tar can hold
		}
		packed := rawTar(t, map[string]string{one: first, two: second, signaturesFile: signatures})
		b, err := ReadBundle(packed, nil)
		if err == nil {
			again, err := b.Pack(nil)
			if err != nil {
				return // rules that do not parse
			}
			same, err := ReadBundle(again, nil)
			if err != nil || same.Digest() != b.Digest() {
				t.Errorf("packed again: %v", err)
			}
		}
		if _, err := ReadBundle(packed, trust); err == nil {
			t.Error("a bundle was trusted that nobody signed")
		}
	})
}
