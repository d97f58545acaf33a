package console

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// Manifest is the last file of a backup archive. It says what came before,
// so that an archive which was cut short or changed is not restored.
type Manifest struct {
	Version  int            `json:"hallmark_backup"` // 1
	Created  time.Time      `json:"created"`
	Database bool           `json:"database"` // false: PostgreSQL holds it, and is backed up by its own means
	Files    []ManifestFile `json:"files"`
}

// ManifestFile is one file of a backup.
type ManifestFile struct {
	Name   string `json:"name"` // relative, with slashes
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"` // lower-case hex
}

const (
	manifestName    = "MANIFEST.json"
	manifestVersion = 1
	maxManifest     = 4 << 20
	maxFiles        = 10_000
	// archiveModes are the permission bits that a backup keeps: nobody but the owner writes.
	archiveModes = 0o755
)

// source is one file or folder that goes into an archive.
type source struct {
	name string // in the archive, with slashes
	path string // on disk
	mode fs.FileMode
}

// addTree appends the file or folder called name below dir, if it exists.
func addTree(files []source, dir, name string) ([]source, error) {
	root := filepath.Join(dir, name)
	err := filepath.WalkDir(root, func(p string, _ fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && p == root {
			return nil
		}
		if err != nil {
			return err
		}
		info, err := os.Stat(p) // a link counts as what it leads to
		if err != nil {
			return err
		}
		inside, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		if !info.IsDir() && !info.Mode().IsRegular() {
			return fmt.Errorf("%s is neither a file nor a folder", p)
		}
		files = append(files, source{name: filepath.ToSlash(inside), path: p, mode: info.Mode()})
		return nil
	})
	return files, err
}

// writeArchive writes the files and their manifest as a gzipped tar.
func writeArchive(w io.Writer, files []source, m Manifest) error {
	zipped := gzip.NewWriter(w)
	out := tar.NewWriter(zipped)
	m.Version = manifestVersion
	for _, f := range files {
		if f.mode.IsDir() {
			if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: f.name + "/", Mode: int64(f.mode & archiveModes), ModTime: m.Created}); err != nil {
				return err
			}
			continue
		}
		written, err := writeFile(out, f, m.Created)
		if err != nil {
			return fmt.Errorf("archiving %s: %w", f.name, err)
		}
		m.Files = append(m.Files, written)
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: manifestName, Mode: 0o644, Size: int64(len(text)), ModTime: m.Created}); err != nil {
		return err
	}
	if _, err := out.Write(text); err != nil {
		return err
	}
	return errors.Join(out.Close(), zipped.Close())
}

func writeFile(out *tar.Writer, f source, at time.Time) (ManifestFile, error) {
	in, err := os.Open(f.path)
	if err != nil {
		return ManifestFile{}, err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return ManifestFile{}, err
	}
	header := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: int64(f.mode & archiveModes), Size: info.Size(), ModTime: at}
	if err := out.WriteHeader(header); err != nil {
		return ManifestFile{}, err
	}
	digest := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(out, digest), in, info.Size()); err != nil {
		return ManifestFile{}, err
	}
	return ManifestFile{Name: f.name, Size: info.Size(), SHA256: sum(digest)}, nil
}

func sum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// Restore unpacks a backup archive into dir, which must not exist or be empty,
// and returns its manifest. The archive is unpacked and checked beside dir and
// put in place by a rename: whatever is wrong with it, dir is whole or untouched.
func Restore(r io.Reader, dir string) (Manifest, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Manifest{}, err
	}
	if there, err := os.ReadDir(dir); err == nil && len(there) > 0 {
		return Manifest{}, fmt.Errorf("%s is not empty: a backup is restored into a new directory", dir)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Manifest{}, err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return Manifest{}, err
	}
	beside, err := os.MkdirTemp(filepath.Dir(dir), ".restore-") // mode 0700: keys are in it
	if err != nil {
		return Manifest{}, err
	}
	defer os.RemoveAll(beside)
	m, err := unpack(r, beside)
	if err != nil {
		return Manifest{}, fmt.Errorf("the archive is not restored: %w", err)
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) { // only ever an empty one
		return Manifest{}, err
	}
	if err := os.Rename(beside, dir); err != nil {
		return Manifest{}, err
	}
	return m, syncDir(filepath.Dir(dir))
}

// unpack writes the archive's files below dir and holds them against the manifest.
func unpack(r io.Reader, dir string) (Manifest, error) {
	root, err := os.OpenRoot(dir) // no name and no link leads out of it
	if err != nil {
		return Manifest{}, err
	}
	defer root.Close()
	unzipped, err := gzip.NewReader(r)
	if err != nil {
		return Manifest{}, fmt.Errorf("not a gzip file: %w", err)
	}
	in := tar.NewReader(unzipped)
	found := map[string]ManifestFile{}
	for n := 0; ; n++ {
		header, err := in.Next()
		if err == io.EOF {
			return Manifest{}, errors.New("it has no manifest: it was cut short, or is no backup")
		}
		if err != nil {
			return Manifest{}, err
		}
		if n > maxFiles {
			return Manifest{}, fmt.Errorf("more than %d files", maxFiles)
		}
		if header.Name == manifestName {
			return readManifest(in, unzipped, found)
		}
		if err := checkHeader(header); err != nil {
			return Manifest{}, err
		}
		if header.Typeflag == tar.TypeDir {
			if err := root.MkdirAll(path.Clean(header.Name), 0o700|fs.FileMode(header.Mode)); err != nil {
				return Manifest{}, err
			}
			continue
		}
		f, err := extract(root, in, header)
		if err != nil {
			return Manifest{}, err
		}
		found[f.Name] = f
	}
}

// checkHeader refuses whatever writeArchive does not write.
func checkHeader(h *tar.Header) error {
	clean := path.Clean(h.Name)
	switch {
	case h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeDir:
		return fmt.Errorf("%q is neither a file nor a folder", h.Name)
	case h.Name != clean && h.Name != clean+"/" || !filepath.IsLocal(filepath.FromSlash(h.Name)) || clean == ".":
		return fmt.Errorf("%q is not a path inside a data directory", h.Name)
	case h.Mode&^archiveModes != 0:
		return fmt.Errorf("%q has the mode %o, which no backup gives", h.Name, h.Mode)
	}
	for record := range h.PAXRecords {
		if strings.HasPrefix(record, "GNU.sparse.") { // a few bytes that unpack to as many zeros as they like
			return fmt.Errorf("%q is a sparse file, which no backup has", h.Name)
		}
	}
	return nil
}

func extract(root *os.Root, in io.Reader, h *tar.Header) (ManifestFile, error) {
	if err := root.MkdirAll(path.Dir(h.Name), 0o700); err != nil {
		return ManifestFile{}, err
	}
	out, err := root.OpenFile(h.Name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, fs.FileMode(h.Mode))
	if err != nil {
		return ManifestFile{}, err
	}
	defer out.Close()
	digest := sha256.New()
	n, err := io.Copy(io.MultiWriter(out, digest), in)
	if err != nil {
		return ManifestFile{}, fmt.Errorf("%s: %w", h.Name, err)
	}
	if err := errors.Join(out.Sync(), out.Close()); err != nil {
		return ManifestFile{}, err
	}
	return ManifestFile{Name: h.Name, Size: n, SHA256: sum(digest)}, nil
}

// readManifest reads the manifest, the archive's last file, and compares.
func readManifest(in *tar.Reader, unzipped io.Reader, found map[string]ManifestFile) (Manifest, error) {
	var m Manifest
	if err := json.NewDecoder(io.LimitReader(in, maxManifest)).Decode(&m); err != nil {
		return m, fmt.Errorf("its manifest cannot be read: %w", err)
	}
	if m.Version != manifestVersion {
		return m, fmt.Errorf("it is a backup of version %d, this program knows version %d", m.Version, manifestVersion)
	}
	for _, want := range m.Files {
		got, there := found[want.Name]
		switch {
		case !there:
			return m, fmt.Errorf("%q is missing", want.Name)
		case got != want:
			return m, fmt.Errorf("%q is not the file that was backed up: its size or content changed", want.Name)
		}
		delete(found, want.Name)
	}
	for name := range found {
		return m, fmt.Errorf("%q is not in the manifest", name)
	}
	if _, err := in.Next(); err != io.EOF {
		return m, errors.New("there is something after the manifest")
	}
	// To the end, for gzip's own checksum.
	if _, err := io.Copy(io.Discard, unzipped); err != nil {
		return m, err
	}
	return m, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
