package console

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/store"
)

func TestABackupComesBackWhole(t *testing.T) {
	h := newHouse(t)
	admin := h.client(h.admin)
	h.imports(admin, "gw-1")
	_, issued := h.enrolled("gw-1")
	r := h.want(admin, 200, "POST", "/api/v1/backup", "")
	if got := r.Header.Get(BackupDatabaseHeader); got != "included" {
		t.Errorf("%s: %q", BackupDatabaseHeader, got)
	}
	for name := range entriesOf(t, h.dir) {
		if strings.HasPrefix(name, ".backup-") {
			t.Errorf("%s is left behind", name)
		}
	}
	dir := filepath.Join(t.TempDir(), "new", "data")
	m, err := Restore(bytes.NewReader(r.body), dir)
	check(t, err)
	if !m.Database || time.Since(m.Created) > time.Minute {
		t.Errorf("%+v", m)
	}
	key := filepath.Join(dir, "keys", "issuing.key")
	if text, err := os.ReadFile(key); err != nil || string(text) != "secret" {
		t.Errorf("%s: %q %v", key, text, err)
	}
	for name, want := range map[string]fs.FileMode{"": 0o700, "keys": 0o700, "keys/issuing.key": 0o600, "hallmark.db": 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		check(t, err)
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%q has mode %o, want %o", name, got, want)
		}
	}
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(dir, "hallmark.db")})
	check(t, err)
	defer db.Close()
	if _, err := db.Certificate(t.Context(), issued.Serial); err != nil {
		t.Error(err)
	}
	log := &audit.Log{Store: db, Signer: h.Log.Signer, Verifier: h.Log.Verifier}
	if _, err := log.Sequence(t.Context()); err != nil {
		t.Errorf("the restored log does not go on: %v", err)
	}
	if _, err := Restore(bytes.NewReader(r.body), dir); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("into a full directory: %v", err)
	}
}

func TestABackupWithoutTheDatabaseSaysSo(t *testing.T) {
	h := newHouse(t)
	h.Backup.Snapshot = nil // as with PostgreSQL
	r := h.want(h.client(h.admin), 200, "POST", "/api/v1/backup", "")
	m, err := Restore(bytes.NewReader(r.body), filepath.Join(t.TempDir(), "data"))
	if err != nil || m.Database || r.Header.Get(BackupDatabaseHeader) != "not-included" {
		t.Errorf("%+v %v %q", m, err, r.Header.Get(BackupDatabaseHeader))
	}
}

func TestOneBackupAtATime(t *testing.T) {
	h := newHouse(t)
	h.backup.Lock()
	p := h.want(h.client(h.admin), 503, "POST", "/api/v1/backup", "").problem(t)
	if p.Code != "backup_running" {
		t.Errorf("%+v", p)
	}
	h.backup.Unlock()
	h.want(h.client(h.admin), 200, "POST", "/api/v1/backup", "")
	h.want(h.client(h.admin), 200, "POST", "/api/v1/backup", "")
}

func entriesOf(t testing.TB, dir string) map[string]bool {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, e := range entries {
		names[e.Name()] = true
	}
	return names
}

// member is one file of an archive made by hand.
type member struct {
	tar.Header
	content string
}

func archiveOf(t *testing.T, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	zipped := gzip.NewWriter(&b)
	out := tar.NewWriter(zipped)
	for _, m := range members {
		m.Size = int64(len(m.content))
		if m.Typeflag == 0 {
			m.Typeflag = tar.TypeReg
		}
		check(t, out.WriteHeader(&m.Header))
		_, err := io.WriteString(out, m.content)
		check(t, err)
	}
	check(t, errors.Join(out.Close(), zipped.Close()))
	return b.Bytes()
}

const emptySHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func manifestMember(files string) member {
	return member{tar.Header{Name: manifestName, Mode: 0o644}, `{"hallmark_backup":1,"created":"2026-01-01T00:00:00Z","files":[` + files + `]}`}
}

func file(name string) member { return member{tar.Header{Name: name, Mode: 0o600}, ""} }

func TestHostileArchivesAreRefused(t *testing.T) {
	listed := func(name string) string { return `{"name":"` + name + `","size":0,"sha256":"` + emptySHA256 + `"}` }
	good := archiveOf(t, file("config.yaml"), manifestMember(listed("config.yaml")))
	flipped := bytes.Clone(good)
	flipped[len(flipped)-5] ^= 1 // in gzip's checksum
	cases := map[string][]byte{
		"nothing":             nil,
		"no gzip":             []byte("hello"),
		"no tar":              gzipped(t, "hello"),
		"cut short":           good[:len(good)/2],
		"damaged":             flipped,
		"no manifest":         archiveOf(t, file("config.yaml")),
		"a broken manifest":   archiveOf(t, member{tar.Header{Name: manifestName, Mode: 0o644}, "{"}),
		"another version":     archiveOf(t, member{tar.Header{Name: manifestName, Mode: 0o644}, `{"hallmark_backup":2}`}),
		"a file missing":      archiveOf(t, manifestMember(listed("config.yaml"))),
		"a file too many":     archiveOf(t, file("config.yaml"), manifestMember("")),
		"another content":     archiveOf(t, member{tar.Header{Name: "config.yaml", Mode: 0o600}, "x"}, manifestMember(listed("config.yaml"))),
		"a file twice":        archiveOf(t, file("config.yaml"), file("config.yaml"), manifestMember(listed("config.yaml"))),
		"after the manifest":  archiveOf(t, manifestMember(""), file("config.yaml")),
		"up and away":         archiveOf(t, file("../escaped"), manifestMember(listed("../escaped"))),
		"up within":           archiveOf(t, file("a/../escaped"), manifestMember(listed("a/../escaped"))),
		"from the root":       archiveOf(t, file("/tmp/escaped"), manifestMember(listed("/tmp/escaped"))),
		"the directory":       archiveOf(t, member{tar.Header{Name: "./", Mode: 0o700, Typeflag: tar.TypeDir}, ""}, manifestMember("")),
		"a symbolic link":     archiveOf(t, member{tar.Header{Name: "keys", Linkname: "/etc", Mode: 0o700, Typeflag: tar.TypeSymlink}, ""}, manifestMember("")),
		"a hard link":         archiveOf(t, member{tar.Header{Name: "keys", Linkname: "/etc/passwd", Mode: 0o700, Typeflag: tar.TypeLink}, ""}, manifestMember("")),
		"a device":            archiveOf(t, member{tar.Header{Name: "null", Mode: 0o600, Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}, ""}, manifestMember("")),
		"a sparse file":       sparse(t),
		"set-uid":             archiveOf(t, member{tar.Header{Name: "x", Mode: 0o4755}, ""}, manifestMember(listed("x"))),
		"writable by anybody": archiveOf(t, member{tar.Header{Name: "x", Mode: 0o666}, ""}, manifestMember(listed("x"))),
	}
	for name, archive := range cases {
		parent := t.TempDir()
		if _, err := Restore(bytes.NewReader(archive), filepath.Join(parent, "data")); err == nil {
			t.Errorf("%s: restored", name)
		}
		if left := entriesOf(t, parent); len(left) > 0 {
			t.Errorf("%s: left %v", name, left)
		}
	}
	if _, err := Restore(bytes.NewReader(good), filepath.Join(t.TempDir(), "data")); err != nil {
		t.Errorf("the good one: %v", err)
	}
}

// sparse is an archive whose one file says that it is a terabyte of holes (PAX format 0.1 of GNU tar).
func sparse(t *testing.T) []byte {
	t.Helper()
	record := func(text string) string {
		n := len(text) + 4 // two digits, a space, a line feed
		return fmt.Sprintf("%d %s\n", n, text)
	}
	pax := record("GNU.sparse.size=1099511627776") + record("GNU.sparse.numblocks=1") + record("GNU.sparse.map=1099511627776,0")
	var b bytes.Buffer
	out := tar.NewWriter(&b)
	check(t, out.WriteHeader(&tar.Header{Name: "pax", Typeflag: tar.TypeReg, Mode: 0o600, Size: int64(len(pax))}))
	_, err := io.WriteString(out, pax)
	check(t, errors.Join(err, out.WriteHeader(&tar.Header{Name: "holes", Typeflag: tar.TypeReg, Mode: 0o600}), out.Close()))
	// The first header becomes that of extended records; its checksum goes up by the difference.
	raw := b.Bytes()
	var sum int
	_, err = fmt.Sscanf(string(raw[148:154]), "%o", &sum)
	check(t, err)
	copy(raw[148:154], fmt.Sprintf("%06o", sum+int(tar.TypeXHeader)-int(raw[156])))
	raw[156] = tar.TypeXHeader
	header, err := tar.NewReader(bytes.NewReader(raw)).Next()
	if err != nil || header.Size != 1<<40 {
		t.Fatalf("the sparse file is none: %+v %v", header, err)
	}
	return gzipped(t, string(raw))
}

func gzipped(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	zipped := gzip.NewWriter(&b)
	_, err := io.WriteString(zipped, text)
	check(t, errors.Join(err, zipped.Close()))
	return b.Bytes()
}
