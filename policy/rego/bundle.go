package rego

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
)

// Bundle is one policy: the files of a directory, or of an OPA bundle. It does not change.
type Bundle struct {
	sources  *sources
	revision string
	metadata map[string]any
	roots    []string // what the manifest says that it is about; nil: everything
}

// File is one file of a Bundle.
type File struct {
	Name string // slash-separated path below the top
	Text []byte
}

// ReadDir reads the policy files below dir. What is wrong with them comes back
// as Problems; whether they are good rules is for Vet and LoadBundle to say.
func ReadDir(dir string) (*Bundle, error) {
	s, err := readDir(dir)
	if err != nil {
		return nil, err
	}
	return &Bundle{sources: s}, nil
}

// ReadBundle reads an OPA bundle (a tar.gz of at most MaxPacked bytes). With a
// Trust it has to carry a signature that Trust accepts, over exactly its files; without one
// signatures are not looked at. What is wrong comes back as Problems.
func ReadBundle(packed []byte, trust *Trust) (*Bundle, error) {
	files, err := unpack(packed)
	if err != nil {
		return nil, err
	}
	if trust != nil {
		if err := trust.verify(files); err != nil {
			return nil, Problems{{File: signaturesFile, Says: err.Error()}}
		}
	}
	b := &Bundle{sources: &sources{}}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := b.take(name, files[name]); err != nil {
			return nil, err
		}
	}
	b.sources.sort()
	return b, b.keepsTo(b.roots)
}

// Names of OPA's bundle format.
const (
	manifestFile   = ".manifest"
	signaturesFile = ".signatures.json"
)

// Repack writes a packed bundle anew, signed with the seal: its rules, tests and data under a manifest
// of ours, and nothing else that it may have come with.
func Repack(packed []byte, seal *Seal) ([]byte, error) {
	b, err := ReadBundle(packed, nil)
	if err != nil {
		return nil, err
	}
	return b.Pack(seal)
}

// take takes one file of a packed bundle in.
func (b *Bundle) take(name string, text []byte) error {
	switch base := path.Base(name); {
	case name == manifestFile:
		return b.takeManifest(text)
	case strings.HasPrefix(base, "."):
		return nil
	case base == "patch.json":
		return Problems{{File: name, Says: "a delta bundle says only what changes; a whole one is needed"}}
	case path.Ext(name) == ".wasm":
		return Problems{{File: name, Says: "compiled rules cannot be looked at; build the bundle without a WebAssembly target"}}
	}
	return b.sources.take(name, text)
}

func (b *Bundle) takeManifest(text []byte) error {
	var m bundle.Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return Problems{{File: manifestFile, Says: err.Error()}}
	}
	v1 := func(version int) bool { return version == 1 }
	if m.RegoVersion != nil && !v1(*m.RegoVersion) {
		return Problems{{File: manifestFile, Says: "rego_version must be 1"}}
	}
	for pattern, version := range m.FileRegoVersions {
		if !v1(version) {
			return Problems{{File: manifestFile, Says: fmt.Sprintf("file_rego_versions of %q must be 1", shorten(pattern))}}
		}
	}
	if len(m.WasmResolvers) > 0 {
		return Problems{{File: manifestFile, Says: "compiled rules cannot be looked at; build the bundle without a WebAssembly target"}}
	}
	if len(m.Revision) > maxText {
		return Problems{{File: manifestFile, Says: fmt.Sprintf("a revision has at most %d bytes", maxText)}}
	}
	b.revision, b.metadata = m.Revision, m.Metadata
	if m.Roots != nil {
		b.roots = *m.Roots
	}
	return nil
}

// maxRoots bounds the roots of a manifest.
const maxRoots = 256

// keepsTo holds rules and data against the manifest's roots, as OPA does: what lies
// outside of them an agent would refuse that we had taken. Rules that do not parse are left to Vet.
func (b *Bundle) keepsTo(roots []string) error {
	wrong := func(file, says string) error { return Problems{{File: file, Says: says}} }
	if roots == nil {
		return nil
	}
	if len(roots) > maxRoots {
		return wrong(manifestFile, fmt.Sprintf("more than %d roots", maxRoots))
	}
	for i, root := range roots {
		roots[i] = strings.Trim(root, "/")
		for _, other := range roots[:i] {
			if bundle.RootPathsOverlap(roots[i], other) {
				return wrong(manifestFile, fmt.Sprintf("the roots %q and %q overlap", shorten(other), shorten(roots[i])))
			}
		}
	}
	within := func(name string) bool {
		return slices.ContainsFunc(roots, func(root string) bool { return root == "" || name == root || strings.HasPrefix(name, root+"/") })
	}
	for _, f := range slices.Concat(b.sources.rules, b.sources.tests) {
		if name, ok := packageOf(f); ok && !within(name) {
			return wrong(f.name, fmt.Sprintf("its package %s lies outside of the roots that the manifest names", shorten(name)))
		}
	}
	document, err := b.sources.document()
	if err != nil {
		return err
	}
	if outside := stray("", document, roots, within); outside != "" {
		return wrong(b.sources.data.name, fmt.Sprintf("%s lies outside of the roots that the manifest names", shorten(outside)))
	}
	return nil
}

// packageOf is the path of a module's package below data, if it parses.
func packageOf(f file) (name string, ok bool) {
	module, err := ast.ParseModuleWithOpts(f.name, string(f.text), ast.ParserOptions{RegoVersion: ast.RegoV1})
	if err != nil || module == nil {
		return "", false
	}
	var parts []string
	for _, term := range module.Package.Path[1:] {
		if part, isText := term.Value.(ast.String); isText {
			parts = append(parts, string(part))
		}
	}
	return strings.Join(parts, "/"), true
}

// stray is a path of the data that no root holds, or empty.
func stray(at string, document map[string]any, roots []string, within func(string) bool) string {
	for _, name := range slices.Sorted(maps.Keys(document)) {
		path := strings.TrimPrefix(at+"/"+name, "/")
		if within(path) {
			continue
		}
		deeper, isObject := document[name].(map[string]any)
		leads := slices.ContainsFunc(roots, func(root string) bool { return strings.HasPrefix(root, path+"/") })
		if !isObject || !leads {
			return path
		}
		if outside := stray(path, deeper, roots, within); outside != "" {
			return outside
		}
	}
	return ""
}

// Digest names the rules and data as "sha256:<hex>", as decisions record them (see the policy guide).
func (b *Bundle) Digest() string { return b.sources.digest() }

// Revision is what the bundle's manifest calls it; without one it is the digest.
func (b *Bundle) Revision() string {
	if b.revision == "" {
		return b.Digest()
	}
	return b.revision
}

// Files returns rules, tests and data, sorted by name. The texts are not to be changed.
func (b *Bundle) Files() []File {
	var all []File
	for _, f := range b.sources.all() {
		all = append(all, File{f.name, f.text})
	}
	return all
}

// Settings is the member settings of the data, as encoding/json decodes it; nil if there is none.
func (b *Bundle) Settings() map[string]any {
	document, err := b.sources.document()
	if err != nil {
		return nil
	}
	return settingsOf(document)
}

// settingsOf returns the member settings in the shape that encoding/json gives.
func settingsOf(document map[string]any) map[string]any {
	settings, ok := document["settings"].(map[string]any)
	if !ok {
		return nil
	}
	text, err := json.Marshal(settings)
	if err != nil {
		return nil
	}
	var plain map[string]any
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&plain); err != nil {
		return nil
	}
	return plain
}

// Load compiles the bundle's rules. What is wrong with them comes back as Problems.
func (b *Bundle) Load(ctx context.Context) (*Engine, error) {
	r, err := compile(ctx, b.sources)
	if err != nil {
		return nil, err
	}
	r.revision = b.Revision()
	e := &Engine{}
	e.active.Store(r)
	return e, nil
}

// LoadBundle is ReadBundle and Load in one. The Engine stays as it is: Reload is an error.
func LoadBundle(ctx context.Context, packed []byte, trust *Trust) (*Engine, error) {
	b, err := ReadBundle(packed, trust)
	if err != nil {
		return nil, err
	}
	return b.Load(ctx)
}

var errNoDirectory = errors.New("these rules came from a bundle, there is no directory to read again")
