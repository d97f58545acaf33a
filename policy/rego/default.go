package rego

import (
	"embed"
	"io/fs"
)

//go:embed default
var embedded embed.FS

// Default returns the policy that a new server starts with: rules, data and
// tests, to be written to its policy directory.
func Default() fs.FS {
	sub, err := fs.Sub(embedded, "default")
	if err != nil {
		panic("rego: the default policy was not compiled in") // cannot happen: the embed directive above names it
	}
	return sub
}
