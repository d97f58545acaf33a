// Package pgtest runs a private PostgreSQL for tests: a fresh cluster in a
// temporary folder, reached over a Unix socket, with durable commits as in
// earnest. A machine without PostgreSQL fails the test; it never skips it.
package pgtest

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/lib/pq"
)

// Cluster is a running PostgreSQL server. One serves all tests of a binary:
// start it with the first test that asks, and stop it in TestMain.
type Cluster struct {
	folder    string
	server    *exec.Cmd
	log       *bytes.Buffer
	databases atomic.Int64
}

// ErrMissing says what to install.
var ErrMissing = errors.New("PostgreSQL is not installed: apt-get install postgresql")

// Start makes a cluster and waits until it answers. Started by root, who may
// not run PostgreSQL, it runs as the user postgres.
func Start() (*Cluster, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "pgtest")
	if err != nil {
		return nil, err
	}
	c := &Cluster{folder: folder, log: &bytes.Buffer{}}
	if err := c.start(bin); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

func (c *Cluster) start(bin string) error {
	as, err := owner(c.folder)
	if err != nil {
		return err
	}
	data := filepath.Join(c.folder, "data")
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "--no-instructions")
	initdb.SysProcAttr, initdb.Dir = as, c.folder
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	c.server = exec.Command(filepath.Join(bin, "postgres"), "-D", data, "-k", c.folder, "-c", "listen_addresses=", "-c", "fsync=on", "-c", "max_connections=200")
	c.server.SysProcAttr, c.server.Dir = as, c.folder
	c.server.Stdout, c.server.Stderr = c.log, c.log
	if err := c.server.Start(); err != nil {
		return err
	}
	return c.wait()
}

// wait returns when the server answers.
func (c *Cluster) wait() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	db, err := sql.Open("postgres", c.url("postgres"))
	if err != nil {
		return err
	}
	defer db.Close()
	for {
		if err = db.PingContext(ctx); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("PostgreSQL does not answer: %w\n%s", err, c.log)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// binaries finds the newest PostgreSQL where Debian puts it, else on the PATH.
func binaries() (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if len(found) > 0 {
		slices.Sort(found)
		return filepath.Dir(found[len(found)-1]), nil
	}
	path, err := exec.LookPath("postgres")
	if err != nil {
		return "", ErrMissing
	}
	return filepath.Dir(path), nil
}

// owner gives the folder to whoever is to run the server, and returns how to start it.
func owner(folder string) (*syscall.SysProcAttr, error) {
	// A test binary that is killed takes its server along.
	as := &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT}
	if os.Getuid() != 0 {
		return as, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrMissing, err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	as.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return as, os.Chown(folder, uid, gid)
}

func (c *Cluster) url(database string) string {
	q := url.Values{"host": {c.folder}, "sslmode": {"disable"}}
	return (&url.URL{Scheme: "postgres", User: url.User("postgres"), Path: "/" + database, RawQuery: q.Encode()}).String()
}

// Database makes an empty database and returns its URL.
func (c *Cluster) Database(t testing.TB) string {
	t.Helper()
	if c == nil {
		t.Fatal("there is no PostgreSQL for this test")
	}
	db, err := sql.Open("postgres", c.url("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	name := fmt.Sprintf("test%d", c.databases.Add(1))
	if _, err := db.ExecContext(t.Context(), "CREATE DATABASE "+pq.QuoteIdentifier(name)); err != nil {
		t.Fatal(err)
	}
	return c.url(name)
}

// Disconnect cuts all connections to the database, as a restart of the server would.
func (c *Cluster) Disconnect(t testing.TB, address string) {
	t.Helper()
	db, err := sql.Open("postgres", address)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	_, err = db.ExecContext(t.Context(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
	if err != nil {
		t.Fatal(err)
	}
}

// Stop ends the server and removes its folder.
func (c *Cluster) Stop() error {
	if c == nil {
		return nil
	}
	if c.server != nil && c.server.Process != nil {
		c.server.Process.Signal(syscall.SIGINT) // fast shutdown: does not wait for clients
		c.server.Wait()
	}
	return os.RemoveAll(c.folder)
}
