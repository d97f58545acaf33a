package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/ca/keys"
	"github.com/hallmark-pki/hallmark/ca/status"
	"github.com/hallmark-pki/hallmark/policy/rego"
	"github.com/hallmark-pki/hallmark/store"
)

// The data directory.
const (
	configFile     = "config.yaml"
	databaseFile   = "hallmark.db"
	rootFile       = "root.crt" // trust anchor; its presence says that the directory is initialised
	issuingFile    = "ca/issuing.crt"
	serverFile     = "keys/server.pem" // key and chain of the secure listener, replaced together
	logKeyFile     = "keys/log.key"
	logPublicFile  = "log.pub"
	operatorCAFile = "operators/ca.crt"
	operatorCAKey  = "file:keys/operator-ca.key"
	adminCertFile  = "operators/admin.crt"
	adminKeyFile   = "operators/admin.key"
	runFile        = "run.json" // where the running server listens
	stagingDir     = ".init"
)

// backedUp is what a backup holds besides the database.
var backedUp = []string{configFile, rootFile, logPublicFile, "ca", "keys", "operators", "policy", "attestation"}

func initCommand() *cobra.Command {
	var o options
	c := &cobra.Command{
		Use:     "init",
		Short:   "Initialise a data directory without starting the server",
		Example: "  hallmark init --data /var/lib/hallmark",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			made, err := initialise(c.Context(), o)
			if err == nil && made == nil {
				err = fmt.Errorf("%s is initialised already", o.dir)
			}
			if err == nil {
				made.tell(os.Stdout)
			}
			return err
		},
	}
	o.flags(c)
	return c
}

// read reads the configuration, over which the flags stand.
func (o *options) read() (*Config, error) {
	path := o.config
	if path == "" {
		path = filepath.Join(o.dir, configFile)
	} else if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	c, err := readConfig(path, *o)
	if err != nil {
		return nil, err
	}
	if o.rates == "off" {
		off := false
		c.Limits.Rates = &off
	}
	return c, nil
}

// founding is what initialise has made, for people to read.
type founding struct {
	dir     string
	config  *Config
	founded *ca.Founded
}

// initialise makes a new house in an empty data directory, and returns nil if
// there is one already. Everything is made beside its place and moved there at
// the end; an interrupted initialisation is started over, or finished if all
// was made.
func initialise(ctx context.Context, o options) (*founding, error) {
	if _, err := os.Stat(filepath.Join(o.dir, rootFile)); err == nil {
		return nil, nil
	}
	if err := os.MkdirAll(o.dir, 0o700); err != nil {
		return nil, err
	}
	staging := filepath.Join(o.dir, stagingDir)
	if _, err := os.Stat(filepath.Join(staging, rootFile)); err == nil {
		return nil, settle(staging, o.dir)
	}
	if err := checkEmpty(o.dir); err != nil {
		return nil, err
	}
	if err := os.RemoveAll(staging); err != nil {
		return nil, err
	}
	config, err := o.read()
	if err != nil {
		return nil, err
	}
	made, err := found(ctx, staging, config, o)
	if err != nil {
		os.RemoveAll(staging)
		return nil, fmt.Errorf("initialising %s: %w", o.dir, err)
	}
	made.dir = o.dir
	return made, settle(staging, o.dir)
}

// checkEmpty refuses a directory that holds anything but what may be put there beforehand.
func checkEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch e.Name() {
		case configFile, "policy", "attestation", stagingDir, "lost+found":
		default:
			return fmt.Errorf("%s is neither a Hallmark data directory nor empty: it holds %s but no %s", dir, e.Name(), rootFile)
		}
	}
	return nil
}

// found makes a whole data directory in dir. root.crt is written last.
func found(ctx context.Context, dir string, config *Config, o options) (*founding, error) {
	for _, d := range []string{"", "ca", "keys", "operators", "policy"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			return nil, err
		}
	}
	if err := os.CopyFS(filepath.Join(dir, "policy"), rego.Default()); err != nil {
		return nil, err
	}
	if err := writeAll(dir, map[string][]byte{configFile: []byte(firstConfig(config, o))}); err != nil {
		return nil, err
	}
	founded, files, err := foundAuthorities(ctx, dir, config)
	if err != nil {
		return nil, err
	}
	secret, public, err := audit.NewKey(logOrigin(config))
	if err != nil {
		return nil, err
	}
	files[logKeyFile], files[logPublicFile] = []byte(secret+"\n"), []byte(public+"\n")
	if err := writeAll(dir, files); err != nil {
		return nil, err
	}
	if err := record(ctx, dir, config, founded.Events); err != nil {
		return nil, err
	}
	return &founding{config: config, founded: founded}, writeAll(dir, map[string][]byte{rootFile: ca.EncodePEM(founded.Root)})
}

// foundAuthorities makes the keys and certificates, and returns the files to be written.
func foundAuthorities(ctx context.Context, dir string, config *Config) (*ca.Founded, map[string][]byte, error) {
	f := ca.Founding{Name: config.Organization, Hosts: append([]string{hostName()}, config.Hosts...), Now: time.Now()}
	f.RootList = func(root *x509.Certificate) string {
		return status.WholeListURL(config.StatusURL, ca.IssuerName(root.SubjectKeyId))
	}
	ring := keys.Ring{Dir: dir}
	var err error
	if f.RootKey, err = ring.Create(ctx, config.Keys.Root, keys.P384); err != nil {
		return nil, nil, err
	}
	if f.IssuingKey, err = ring.Create(ctx, config.Keys.Issuing, keys.P256); err != nil {
		return nil, nil, err
	}
	if f.OperatorCAKey, err = ring.Create(ctx, operatorCAKey, keys.P256); err != nil {
		return nil, nil, err
	}
	if _, err = ring.Create(ctx, config.Keys.Policy, keys.P256); err != nil {
		return nil, nil, err
	}
	admin, err := newKey()
	if err != nil {
		return nil, nil, err
	}
	server, err := newKey()
	if err != nil {
		return nil, nil, err
	}
	f.AdminKey, f.ServerKey = admin.Public(), server.Public()
	founded, err := ca.Found(f)
	if err != nil {
		return nil, nil, err
	}
	files := map[string][]byte{
		issuingFile: ca.EncodePEM(founded.Issuing), operatorCAFile: ca.EncodePEM(founded.OperatorCA), adminCertFile: ca.EncodePEM(founded.Admin),
	}
	if files[adminKeyFile], err = withKey(admin); err != nil {
		return nil, nil, err
	}
	files[serverFile], err = withKey(server, founded.Server, founded.Issuing)
	return founded, files, err
}

// logOrigin names the audit log (C2SP tlog-checkpoint: a schema-less URL, unique to the log).
func logOrigin(c *Config) string { return c.TrustDomain + "/log" }

// record puts the founding on the record of the new database.
func record(ctx context.Context, dir string, config *Config, events []audit.Event) error {
	c := store.Config{URL: config.Database.URL}
	if c.URL == "" {
		c.Path = filepath.Join(dir, databaseFile)
	}
	db, err := store.Open(ctx, c)
	if err != nil {
		return err
	}
	for _, e := range events {
		err = errors.Join(err, db.Append(ctx, e))
	}
	return errors.Join(err, db.Close())
}

// firstConfig is the configuration file of a new directory, with the addresses
// that were given as flags, so that the command line finds the server.
func firstConfig(c *Config, o options) string {
	listen, status := c.Listen, c.StatusListen
	if strings.HasSuffix(listen, ":0") { // chosen anew at each start
		listen = ":8443"
	}
	if strings.HasSuffix(status, ":0") {
		status = ":8080"
	}
	return strings.NewReplacer("%LISTEN%", listen, "%STATUS%", status).Replace(defaultConfig)
}

func writeAll(dir string, files map[string][]byte) error {
	for name, text := range files {
		mode := fs.FileMode(0o644)
		if strings.HasPrefix(name, "keys/") || name == adminKeyFile {
			mode = 0o600
		}
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
		if err != nil {
			return err
		}
		_, err = f.Write(text)
		if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// settle moves what was made to its place, the trust anchor last. What
// somebody has put there beforehand stays.
func settle(staging, dir string) error {
	entries, err := os.ReadDir(staging)
	if err != nil {
		return err
	}
	move := func(name string) error {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return nil
		}
		return os.Rename(filepath.Join(staging, name), filepath.Join(dir, name))
	}
	for _, e := range entries {
		if e.Name() == rootFile {
			continue
		}
		if err := move(e.Name()); err != nil {
			return err
		}
	}
	if err := syncDir(dir); err != nil { // all else is on the disk before the mark that says so
		return err
	}
	if err := move(rootFile); err != nil {
		return err
	}
	return errors.Join(syncDir(dir), os.RemoveAll(staging))
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// tell says what was made and what to type next.
func (f *founding) tell(w io.Writer) {
	at := ""
	if f.dir != defaultDir && filepath.Clean(f.dir) != filepath.Clean(defaultDir) {
		at = " --data " + f.dir
	}
	fmt.Fprintf(w, `Hallmark made a new certificate authority in %[1]s:
  root.crt                trust anchor of devices and of this server, until %[2]s
  ca/issuing.crt          signs device certificates, until %[3]s
  operators/admin.crt     your own credential, until %[4]s
  policy/                 the rules that decide, in Rego
  config.yaml             everything else
Next, in another terminal:
  hallmark device import devices.csv%[5]s          # a CSV with the column id
  hallmark token create --device ID%[5]s
  hallmark-device enroll --server https://localhost%[6]s --ca %[1]s/root.crt --id ID --token TOKEN --out ./device

`, strings.TrimSuffix(f.dir, "/"), day(f.founded.Root.NotAfter), day(f.founded.Issuing.NotAfter), day(f.founded.Admin.NotAfter), at, port(f.config.Listen))
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// port is the ":PORT" of an address.
func port(address string) string { return address[strings.LastIndexByte(address, ':'):] }
