package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// server is one process under test.
type server struct {
	name   string
	binary string
	args   []string
	dir    string
	addr   string // EST
	status string // readiness and metrics; empty for the floor
	debug  string // pprof; empty for the floor
	pin    bool
	cmd    *exec.Cmd
	exited chan error
}

// newFloor prepares the floor, which is this very binary as its own process.
func newFloor(o options, dir, makers string, noVerify bool) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &server{name: "floor", binary: self, dir: dir, pin: o.Pin}
	if s.addr, err = freeAddress(); err != nil {
		return nil, err
	}
	s.args = []string{"-floor-listen", s.addr, "-floor-dir", dir, "-floor-makers", makers}
	if noVerify {
		s.name = "floor, unverified"
		s.args = append(s.args, "-floor-noverify")
	}
	return s, nil
}

// newProduct prepares the server on a data directory that may be new.
func newProduct(o options, dir string) (*server, error) {
	s := &server{name: "hallmark", binary: o.Hallmark, dir: dir, pin: o.Pin}
	for _, a := range []*string{&s.addr, &s.status, &s.debug} {
		var err error
		if *a, err = freeAddress(); err != nil {
			return nil, err
		}
	}
	s.args = []string{"serve", "--data", dir, "--listen", s.addr, "--status-listen", s.status, "--rate-limits=off"}
	if o.CPUProfile != "" {
		s.args = append(s.args, "--debug-listen", s.debug)
	}
	return s, nil
}

// freeAddress is a loopback address that nobody listens on just now.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// start runs the process; its output goes to a file beside its directory.
func (s *server) start() error {
	log, err := os.OpenFile(s.dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	s.cmd = exec.Command(s.binary, s.args...)
	if s.pin {
		s.cmd = exec.Command("taskset", append([]string{"-c", "0", s.binary}, s.args...)...)
	}
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		return err
	}
	exited, cmd := make(chan error, 1), s.cmd
	s.exited = exited
	go func() { exited <- cmd.Wait() }()
	return nil
}

// ready waits until the server accepts work.
func (s *server) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		if s.answers(ctx) {
			return nil
		}
		select {
		case err := <-s.exited:
			return fmt.Errorf("%s ended: %v\n%s", s.name, err, s.lastWords())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w\n%s", s.name, ctx.Err(), s.lastWords())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (s *server) answers(ctx context.Context) bool {
	if s.status == "" {
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			return false
		}
		c.Close()
		return true
	}
	_, err := get(ctx, "http://"+s.status+"/readyz")
	return err == nil
}

// stop ends the process as an operator would, and waits for it.
func (s *server) stop() error {
	if s.cmd == nil {
		return nil
	}
	defer func() { s.cmd = nil }()
	s.cmd.Process.Signal(syscall.SIGTERM) // an error means that it has ended already
	select {
	case err := <-s.exited:
		if s.status != "" && err != nil { // the floor knows no clean end
			return fmt.Errorf("%s did not end cleanly: %w\n%s", s.name, err, s.lastWords())
		}
		return nil
	case <-time.After(30 * time.Second):
		s.cmd.Process.Kill()
		return fmt.Errorf("%s did not end within 30 s of SIGTERM", s.name)
	}
}

func (s *server) lastWords() string {
	log, _ := os.ReadFile(s.dir + ".log") // what cannot be read cannot be shown
	return string(log[max(0, len(log)-2000):])
}

// admin runs one of the operator's commands against the server and returns its output.
func (s *server) admin(ctx context.Context, args ...string) (string, error) {
	admin := filepath.Join(s.dir, "operators", "admin")
	args = append(args, "--server", "https://"+s.addr, "--ca", filepath.Join(s.dir, "root.crt"),
		"--cert", admin+".crt", "--key", admin+".key")
	cmd := exec.CommandContext(ctx, s.binary, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("hallmark %s: %w: %s", strings.Join(args[:2], " "), err, stderr.String())
	}
	return strings.TrimSpace(string(out)), nil
}

// prepare registers devices 1 … n and the maker in that file, and returns a token good for n certificates.
func (s *server) prepare(ctx context.Context, n int, maker string) (string, error) {
	const most = 5000 // lines a file, so that no import is of unusual size
	for first := 1; first <= n; first += most {
		var csv strings.Builder
		csv.WriteString("id,model,serial,batch\n")
		for i := first; i < first+most && i <= n; i++ {
			fmt.Fprintf(&csv, "%s,sensor-2,SN%08d,B%03d\n", deviceID(i), i, i/1000)
		}
		file := s.dir + ".csv"
		if err := os.WriteFile(file, []byte(csv.String()), 0o600); err != nil {
			return "", err
		}
		if _, err := s.admin(ctx, "device", "import", file); err != nil {
			return "", err
		}
	}
	if _, err := s.admin(ctx, "anchor", "add", "--profile", "device", "--kind", "idevid", maker); err != nil {
		return "", err
	}
	return s.admin(ctx, "token", "create", "--uses", strconv.Itoa(n), "--ttl", "1h")
}

func get(ctx context.Context, url string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, response.Status)
	}
	return body, err
}

// batches is the product's histogram of commit batch sizes since its start.
type batches struct{ Sum, Count float64 }

// commits scrapes the batch sizes from the metrics.
func (s *server) commits(ctx context.Context) (batches, error) {
	var b batches
	text, err := get(ctx, "http://"+s.status+"/metrics")
	if err != nil {
		return b, err
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		switch name {
		case "hallmark_commit_batch_size_sum":
			b.Sum, err = strconv.ParseFloat(value, 64)
		case "hallmark_commit_batch_size_count":
			b.Count, err = strconv.ParseFloat(value, 64)
		}
		if err != nil {
			return b, err
		}
	}
	return b, nil
}

func (b batches) String() string {
	if b.Count == 0 {
		return "none seen"
	}
	return fmt.Sprintf("%.1f on average over %.0f commits", b.Sum/b.Count, b.Count)
}

// profile fetches a CPU profile of the coming seconds into path.
func (s *server) profile(ctx context.Context, seconds int, path string) error {
	data, err := get(ctx, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", s.debug, seconds))
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}

// pinLoad moves this process to the last CPU, away from the server on the first.
func pinLoad() error {
	last := strconv.Itoa(runtime.NumCPU() - 1)
	out, err := exec.Command("taskset", "-a", "-c", "-p", last, strconv.Itoa(os.Getpid())).CombinedOutput()
	if err != nil {
		return fmt.Errorf("taskset: %w: %s", err, out)
	}
	runtime.GOMAXPROCS(1)
	return nil
}
