//go:build ignore

// Gathers makers.pem anew from a checkout of
// github.com/loicsikidi/tpm-ca-certificates: go run makers_gather.go CHECKOUT > makers.pem
package main

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

type entry struct{ maker, kind, url, fingerprint string }

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: go run makers_gather.go CHECKOUT >makers.pem")
	}
	dir := os.Args[1]
	commit, err := exec.Command("git", "-C", dir, "log", "-1", "--format=%H %cs", "--", ".tpm-roots.yaml", ".tpm-intermediates.yaml").Output()
	if err != nil {
		log.Fatal(err)
	}
	hash, date, _ := strings.Cut(strings.TrimSpace(string(commit)), " ")
	fmt.Printf("# Certificates of makers of TPMs. Gathered by makers_gather.go; do not edit.\n#\n# version %s\n#\n"+
		"# Each stands at its maker's own address, given with it, where the project\n"+
		"# github.com/loicsikidi/tpm-ca-certificates (commit %s)\n# found it, checked it and watches it.\n", date, hash)
	var blocks []string
	for _, kind := range []string{"root", "intermediate"} {
		blocks = append(blocks, gather(dir, kind)...)
	}
	slices.SortStableFunc(blocks, func(a, b string) int { // by maker, its roots first
		return strings.Compare(strings.Fields(a)[1], strings.Fields(b)[1])
	})
	for _, b := range blocks {
		fmt.Print("\n", b)
	}
}

func gather(dir, kind string) []string {
	list, bundle := ".tpm-roots.yaml", "MIRROR.tpm-ca-certificates.pem"
	if kind == "intermediate" {
		list, bundle = ".tpm-intermediates.yaml", "MIRROR.tpm-intermediate-ca-certificates.pem"
	}
	entries := entriesIn(filepath.Join(dir, list), kind)
	file, err := os.ReadFile(filepath.Join(dir, bundle))
	if err != nil {
		log.Fatal(err)
	}
	var blocks []string
	for block, rest := pem.Decode(file); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			log.Fatalf("certificate %d: %v", len(blocks)+1, err)
		}
		s256, s1 := sha256.Sum256(block.Bytes), sha1.Sum(block.Bytes)
		i := slices.IndexFunc(entries, func(e entry) bool {
			return e.fingerprint == hex.EncodeToString(s256[:]) || e.fingerprint == hex.EncodeToString(s1[:])
		})
		if i < 0 {
			log.Fatalf("%s is not in %s", c.Subject, list)
		}
		e := entries[i]
		var b bytes.Buffer
		fmt.Fprintf(&b, "# %s %s\n# %s\n# sha256 %x\n# from %s\n", e.maker, e.kind, c.Subject, s256, e.url)
		pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: block.Bytes})
		blocks = append(blocks, b.String())
	}
	if len(blocks) != len(entries) {
		log.Fatalf("%s has %d certificates, %s %d", bundle, len(blocks), list, len(entries))
	}
	return blocks
}

// entriesIn reads a list by its lines: each certificate gives its url, then one fingerprint.
func entriesIn(path, kind string) []entry {
	text, err := os.ReadFile(path)
	if err != nil {
		log.Fatal(err)
	}
	field := regexp.MustCompile(`^[ -]*(id|url|sha1|sha256): *"?([^"]*)"?$`)
	var entries []entry
	maker, url := "", ""
	for line := range strings.Lines(string(text)) {
		m := field.FindStringSubmatch(strings.TrimRight(line, "\n"))
		switch {
		case m == nil:
		case m[1] == "id":
			maker = m[2]
		case m[1] == "url":
			url = m[2]
		default:
			entries = append(entries, entry{maker, kind, url, strings.ToLower(strings.ReplaceAll(m[2], ":", ""))})
		}
	}
	return entries
}
