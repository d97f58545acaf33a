package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// keptLogin is a session that "hallmark login" has brought, as it is kept for other commands.
type keptLogin struct {
	Server   string    `json:"server"` // URL without a path
	CA       string    `json:"ca"`     // what the server is trusted by, PEM
	ID       string    `json:"id"`
	Operator string    `json:"operator"`
	Token    string    `json:"token"`
	Created  time.Time `json:"created"`
	Expires  time.Time `json:"expires"`
}

// loginDir is where sessions are kept: one file a server, for this user's eyes only.
func loginDir() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("there is no place to keep a session: %w", err)
	}
	return filepath.Join(dir, "hallmark", "sessions"), nil
}

func loginFile(server string) (string, error) {
	dir, err := loginDir()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(server))
	return filepath.Join(dir, hex.EncodeToString(sum[:12])+".json"), nil
}

// keep writes the session down.
func (k *keptLogin) keep() error {
	file, err := loginFile(k.Server)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	text, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(file, append(text, '\n')) // mode 0600
}

// findLogin returns the session that is kept for a server; nil if there is none, or it has run out.
func findLogin(server string) *keptLogin {
	file, err := loginFile(server)
	if err != nil {
		return nil
	}
	return readLogin(file)
}

func readLogin(file string) *keptLogin {
	var k keptLogin
	text, err := os.ReadFile(file)
	if err != nil || json.Unmarshal(text, &k) != nil || k.Token == "" || !time.Now().Before(k.Expires) {
		return nil
	}
	return &k
}

// lastLogin returns the session that was brought last, for whatever server; nil if there is none.
func lastLogin() *keptLogin {
	dir, err := loginDir()
	if err != nil {
		return nil
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*.json")) // fails on a bad pattern only
	var last *keptLogin
	for _, file := range files {
		if k := readLogin(file); k != nil && (last == nil || k.Created.After(last.Created)) {
			last = k
		}
	}
	return last
}

// forgetLogin removes what is kept for a server.
func forgetLogin(server string) error {
	file, err := loginFile(server)
	if err != nil {
		return err
	}
	if err := os.Remove(file); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
