// Package swtpm runs software TPMs for tests: real ones, of libtpms, made by a
// local maker with an endorsement key certificate as a factory makes them. A
// machine without swtpm fails the test; it never skips it.
package swtpm

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/hallmark-pki/hallmark/internal/tpmdevice"
)

// Options say what kind of TPM to make.
type Options struct {
	Socket        bool // reached over a Unix socket instead of TCP
	NoCertificate bool // without endorsement key certificates
	ECC           bool // with a certificate of the P-256 endorsement key, too
	Old           bool // a TPM 1.2
}

// TPM is a software TPM with its state.
type TPM struct {
	t       testing.TB
	folder  string
	options Options
	address string
	command *exec.Cmd
	log     *bytes.Buffer
}

// TPM makes a TPM, switches it on, and off when the test ends.
func (m *Maker) TPM(t testing.TB, o Options) *TPM {
	t.Helper()
	folder, err := os.MkdirTemp("", "swtpm-") // t.TempDir's paths are too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	c := &TPM{t: t, folder: folder, options: o}
	t.Cleanup(func() {
		c.kill()
		os.RemoveAll(folder)
	})
	if err := os.Mkdir(c.state(), 0o700); err != nil {
		t.Fatal(err)
	}
	m.setUp(t, c.state(), o)
	c.On()
	if o.ECC {
		m.certifyECC(t, c)
	}
	return c
}

// Make is the TPM of a maker of its own.
func Make(t testing.TB, o Options) (*TPM, *Maker) {
	t.Helper()
	m := NewMaker(t)
	return m.TPM(t, o), m
}

func (c *TPM) state() string  { return filepath.Join(c.folder, "state") }
func (c *TPM) socket() string { return filepath.Join(c.folder, "socket") }

// Address is the TPM's as tpmdevice.Open and hallmark-device --tpm take it. It
// stays the same as long as the TPM lives.
func (c *TPM) Address() string { return c.address }

// On switches the TPM on, as a machine does that starts.
func (c *TPM) On() {
	c.t.Helper()
	var err error
	for range 5 { // a port that was free a moment ago may be taken
		if err = c.start(); err == nil {
			return
		}
		c.kill()
	}
	c.t.Fatal(err)
}

func (c *TPM) start() error {
	server := "type=unixio,path=" + c.socket()
	network, at := "unix", c.socket()
	if !c.options.Socket {
		if c.address == "" {
			port, err := freePort()
			if err != nil {
				return err
			}
			c.address = "swtpm:127.0.0.1:" + port
		}
		network, at = "tcp", c.address[len("swtpm:"):]
		_, port, _ := net.SplitHostPort(at)
		server = "type=tcp,port=" + port
	} else {
		os.Remove(c.socket())
		c.address = "swtpm:" + c.socket()
	}
	args := []string{"socket", "--tpmstate", "dir=" + c.state(), "--server", server, "--flags", "not-need-init,startup-clear"}
	if !c.options.Old {
		args = append(args, "--tpm2")
	}
	c.log = &bytes.Buffer{}
	c.command = exec.Command("swtpm", args...)
	c.command.Stdout, c.command.Stderr = c.log, c.log
	c.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // a test binary that is killed takes it along
	if err := c.command.Start(); err != nil {
		c.command = nil
		return fmt.Errorf("%w (apt-get install swtpm swtpm-tools)", err)
	}
	var err error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		var probe net.Conn
		if probe, err = net.Dial(network, at); err == nil {
			return probe.Close()
		}
	}
	return fmt.Errorf("swtpm does not answer: %w\n%s", err, c.log)
}

// Off switches the TPM off in order, as a machine does that shuts down.
func (c *TPM) Off() {
	c.t.Helper()
	c.Do(func(t transport.TPM) error {
		_, err := tpm2.Shutdown{ShutdownType: tpm2.TPMSUClear}.Execute(t)
		return err
	})
	c.kill()
}

// Restart is a power cycle: the state stays, the reset counter goes up.
func (c *TPM) Restart() {
	c.t.Helper()
	c.Off()
	c.On()
}

func (c *TPM) kill() {
	if c.command != nil {
		c.command.Process.Kill()
		c.command.Wait()
		c.command = nil
	}
}

// Snapshot keeps the TPM's state for Restore, as of a switched off machine.
func (c *TPM) Snapshot() (restore func()) {
	c.t.Helper()
	c.Off()
	kept := filepath.Join(c.folder, fmt.Sprintf("state-%d", time.Now().UnixNano()))
	if err := os.CopyFS(kept, os.DirFS(c.state())); err != nil {
		c.t.Fatal(err)
	}
	c.On()
	return func() {
		c.t.Helper()
		c.Off()
		if err := os.RemoveAll(c.state()); err != nil {
			c.t.Fatal(err)
		}
		if err := os.CopyFS(c.state(), os.DirFS(kept)); err != nil {
			c.t.Fatal(err)
		}
		c.On()
	}
}

// Do runs commands of the test's own on the TPM.
func (c *TPM) Do(commands func(transport.TPM) error) {
	c.t.Helper()
	connection, err := tpmdevice.Dial(c.address)
	if err != nil {
		c.t.Fatalf("%v\n%s", err, c.log)
	}
	defer connection.Close()
	if err := commands(connection); err != nil {
		c.t.Fatalf("%v\n%s", err, c.log)
	}
}

// Extend measures what into a PCR, in the banks of SHA-256 and SHA-384.
func (c *TPM) Extend(pcr int, what []byte) {
	c.t.Helper()
	short, long := sha256.Sum256(what), sha512.Sum384(what)
	c.ExtendDigests(pcr, short[:], long[:])
}

// ExtendDigests extends both banks of a PCR with digests that were made elsewhere.
func (c *TPM) ExtendDigests(pcr int, of256, of384 []byte) {
	c.t.Helper()
	c.Do(func(t transport.TPM) error {
		_, err := tpm2.PCRExtend{
			PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
			Digests: tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{
				{HashAlg: tpm2.TPMAlgSHA256, Digest: of256}, {HashAlg: tpm2.TPMAlgSHA384, Digest: of384}}},
		}.Execute(t)
		return err
	})
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}
