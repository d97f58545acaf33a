// Package housetest runs a whole server in a test: the real binaries, a fresh
// data directory, real TLS on a free port. Nothing is mocked; what a test does
// here an operator or a device can do.
package housetest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// House is one running server.
type House struct {
	Dir    string // its data directory
	URL    string // https://127.0.0.1:PORT
	Status string // http://127.0.0.1:PORT
	Flags  []string
	Env    []string

	t       testing.TB
	command *exec.Cmd
	exited  chan error
	log     *logBuffer
}

// Start starts a server on a fresh data directory with further flags for
// serve, waits until it is ready and stops it when the test ends.
func Start(t testing.TB, flags ...string) *House {
	t.Helper()
	return StartIn(t, filepath.Join(t.TempDir(), "data"), flags...)
}

// StartIn is Start on the data directory dir, which may hold a configuration
// or a whole earlier life.
func StartIn(t testing.TB, dir string, flags ...string) *House {
	t.Helper()
	h := New(t, dir, flags...)
	h.Run()
	t.Cleanup(func() {
		h.Kill()
		if t.Failed() {
			t.Logf("the server's log:\n%s", h.log)
		}
	})
	return h
}

// New prepares a server without starting it.
func New(t testing.TB, dir string, flags ...string) *House {
	return &House{Dir: dir, Flags: flags, t: t, log: &logBuffer{}}
}

// Run starts the server's process and waits until it is ready.
func (h *House) Run() {
	h.t.Helper()
	args := append([]string{"serve", "--data", h.Dir, "--listen", "127.0.0.1:0", "--status-listen", "127.0.0.1:0"}, h.Flags...)
	h.command = exec.Command(Binary(h.t, "hallmark"), args...)
	h.command.Env = append(os.Environ(), h.Env...)
	h.command.Stdout, h.command.Stderr = h.log, h.log
	os.Remove(filepath.Join(h.Dir, "run.json"))
	if err := h.command.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.exited = make(chan error, 1)
	go func(c *exec.Cmd, exited chan error) { exited <- c.Wait() }(h.command, h.exited)
	h.awaitReady()
}

func (h *House) awaitReady() {
	h.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		select {
		case err := <-h.exited:
			h.exited <- err
			h.t.Fatalf("the server ended before it was ready: %v\n%s", err, h.log)
		default:
		}
		text, err := os.ReadFile(filepath.Join(h.Dir, "run.json"))
		if err != nil {
			continue
		}
		var at struct{ URL, Status string }
		if json.Unmarshal(text, &at) != nil {
			continue
		}
		h.URL, h.Status = at.URL, at.Status
		if answer, err := http.Get(h.Status + "/readyz"); err == nil {
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return
			}
		}
	}
	h.t.Fatalf("the server was not ready in 30 s\n%s", h.log)
}

// Kill ends the server's process as a power cut would.
func (h *House) Kill() {
	if h.command != nil && h.command.Process != nil {
		h.command.Process.Kill()
		err := <-h.exited
		h.exited <- err
	}
}

// Stop asks the server to drain and returns how its process ended.
func (h *House) Stop() error {
	h.Signal(syscall.SIGTERM)
	err := <-h.exited
	h.exited <- err
	return err
}

// Signal sends the server's process a signal.
func (h *House) Signal(s os.Signal) {
	h.t.Helper()
	if err := h.command.Process.Signal(s); err != nil {
		h.t.Fatal(err)
	}
}

// PID is the server's process id.
func (h *House) PID() int { return h.command.Process.Pid }

// Log returns what the server has logged so far.
func (h *House) Log() string { return h.log.String() }

// CAFile is the trust anchor in PEM.
func (h *House) CAFile() string { return filepath.Join(h.Dir, "root.crt") }

// Hallmark runs an operator's command line against this server and returns its
// standard output. The test fails if the command does.
func (h *House) Hallmark(args ...string) string {
	h.t.Helper()
	out, errs, code := h.Try(args...)
	if code != 0 {
		h.t.Fatalf("hallmark %s: exit %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

// Try runs an operator's command line and returns standard output, standard
// error and the exit code.
func (h *House) Try(args ...string) (out, errs string, code int) {
	h.t.Helper()
	return Exec(h.t, "hallmark", append(args, "--data", h.Dir)...)
}

// Device runs the device's agent and returns like Try.
func (h *House) Device(args ...string) (out, errs string, code int) {
	h.t.Helper()
	return Exec(h.t, "hallmark-device", args...)
}

// Import takes devices with these ids into the register.
func (h *House) Import(ids ...string) {
	h.t.Helper()
	file := filepath.Join(h.t.TempDir(), "devices.csv")
	if err := os.WriteFile(file, []byte("id\n"+strings.Join(ids, "\n")+"\n"), 0o600); err != nil {
		h.t.Fatal(err)
	}
	h.Hallmark("device", "import", file)
}

// Token makes an enrolment token with the flags of "hallmark token create".
func (h *House) Token(flags ...string) string {
	h.t.Helper()
	return strings.TrimSpace(h.Hallmark(append([]string{"token", "create"}, flags...)...))
}

// Client returns an HTTP client that trusts this server, with a TLS
// configuration that the caller may change, and without HTTP/2.
func (h *House) Client() (*http.Client, *tls.Config) {
	h.t.Helper()
	pem, err := os.ReadFile(h.CAFile())
	if err != nil {
		h.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	c := &tls.Config{RootCAs: roots}
	transport := &http.Transport{TLSClientConfig: c}
	h.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, c
}

// Exec runs one of the binaries with a minute's patience.
func Exec(t testing.TB, name string, args ...string) (out, errs string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, Binary(t, name), args...)
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	err := c.Run()
	if _, ended := err.(*exec.ExitError); err != nil && !ended {
		t.Fatalf("%s: %v", name, err)
	}
	return stdout.String(), stderr.String(), c.ProcessState.ExitCode()
}

// built remembers the binaries that this test process has built.
var built struct {
	sync.Mutex
	dir string
}

// Binary builds cmd/NAME once for this test process and returns its path. The
// directory is left to the system's temporary files when the process ends.
func Binary(t testing.TB, name string) string {
	t.Helper()
	built.Lock()
	defer built.Unlock()
	if built.dir == "" {
		dir, err := os.MkdirTemp("", "hallmark-bin-")
		if err != nil {
			t.Fatal(err)
		}
		built.dir = dir
	}
	path := filepath.Join(built.dir, name)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	c := exec.Command("go", "build", "-o", path, "github.com/hallmark-pki/hallmark/cmd/"+name)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", name, err, out)
	}
	return path
}

// Tool returns the path of a program that the tests need, or fails saying which
// Debian package has it.
func Tool(t testing.TB, name, debianPackage string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is missing: apt-get install %s (make test does)", name, debianPackage)
	}
	return path
}

// logBuffer keeps what a process writes, from several goroutines.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String returns everything written so far.
func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
