// Command dex runs Dex, the OpenID Connect provider, for the tests: its own
// server on its own storage in memory, behind TLS. Only the reading of the settings
// is ours, because Dex's own command does not build without cgo.
//
// It is a module of its own, so that nothing of Dex comes near the server's dependencies.
package main

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/dexidp/dex/server"
	"github.com/dexidp/dex/storage"
	"github.com/dexidp/dex/storage/memory"
	"github.com/dexidp/dex/web"
)

// settings are read from the file that the command line names.
type settings struct {
	Issuer, Listen  string
	Cert, Key       string // PEM files, of TLS
	SigningKey      string // PEM file, PKCS #8, RSA
	TokensValidFor  time.Duration
	Clients         []storage.Client
	Email, Password string // of the one user of Dex's password database
	Subject         string // their user id
}

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(file string) error {
	var s settings
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	key, err := signingKey(s.SigningKey)
	if err != nil {
		return err
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(s.Password), bcrypt.DefaultCost)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	kept := storage.WithStaticClients(memory.New(log), s.Clients)
	kept = storage.WithStaticPasswords(kept, []storage.Password{{Email: s.Email, Hash: hash, Username: s.Subject, UserID: s.Subject}}, log)
	kept = storage.WithStaticConnectors(kept, []storage.Connector{{ID: server.LocalConnector, Name: "Email", Type: server.LocalConnector}})
	refresh, err := server.NewRefreshTokenPolicy(log, false, "", "", "")
	if err != nil {
		return err
	}
	dex, err := server.NewServerWithKey(context.Background(), server.Config{Issuer: s.Issuer, Storage: kept, SkipApprovalScreen: true,
		IDTokensValidFor: s.TokensValidFor, RefreshTokenPolicy: refresh, Logger: log, Web: server.WebConfig{WebFS: web.FS()}}, key)
	if err != nil {
		return err
	}
	return (&http.Server{Addr: s.Listen, Handler: dex, ReadHeaderTimeout: time.Minute}).ListenAndServeTLS(s.Cert, s.Key)
}

func signingKey(file string) (*rsa.PrivateKey, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("the signing key is not PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	private, ok := key.(*rsa.PrivateKey)
	if !ok {
		return nil, errors.New("the signing key is not RSA")
	}
	return private, nil
}
