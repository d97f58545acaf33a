package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	_ "net/http/pprof" // only reachable through --debug-listen
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"

	"github.com/hallmark-pki/hallmark/enroll/akca"
	"github.com/hallmark-pki/hallmark/enroll/est"
)

// What the listeners go by. Slow clients are cut off; a stranger costs a bounded buffer.
const (
	headerTimeout = 10 * time.Second
	readTimeout   = 30 * time.Second
	writeTimeout  = 60 * time.Second
	idleTimeout   = 2 * time.Minute
	headerBytes   = 16 << 10
	drainTimeout  = 20 * time.Second
)

func serveCommand() *cobra.Command {
	var o options
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the server; an empty data directory is initialised first",
		Example: `  hallmark serve
  hallmark serve --data /var/lib/hallmark --listen :8443 --status-listen :8080`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error { return serve(o) },
	}
	o.flags(c)
	c.Flags().StringVar(&o.rates, "rate-limits", "on", "on, or off for load tests")
	c.Flags().StringVar(&o.debugListen, "debug-listen", "", "serve pprof profiles on this address; never a public one")
	return c
}

// options are the flags of serve and init.
type options struct {
	dir, config, listen, statusListen string
	rates, debugListen                string
}

func (o *options) flags(c *cobra.Command) {
	c.Flags().StringVar(&o.dir, "data", defaultDir, "data directory")
	c.Flags().StringVar(&o.config, "config", "", "configuration file (default DATA/config.yaml)")
	c.Flags().StringVar(&o.listen, "listen", "", "TLS address: EST, API, audit log (default :8443)")
	c.Flags().StringVar(&o.statusListen, "status-listen", "", "plain HTTP address: issuers, health, metrics (default :8080)")
}

// heapGrowth is how far the heap may grow past what is in use before it is
// collected, in percent. What is in use is a few megabytes, so memory is cheap
// here and collecting is not; GOGC in the environment stands over it.
const heapGrowth = 160

// serve runs the server until it is told to stop.
func serve(o options) error {
	if o.rates != "on" && o.rates != "off" {
		return usageError{fmt.Errorf("--rate-limits is on or off, not %q", o.rates)}
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(heapGrowth)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	made, err := initialise(ctx, o)
	if err != nil {
		return err
	}
	if made != nil {
		made.tell(os.Stderr)
	}
	h, err := build(ctx, o)
	if err != nil {
		return err
	}
	defer h.close()
	return h.run(ctx)
}

// run opens the doors, works until ctx ends, and drains.
func (h *house) run(ctx context.Context) error {
	secure, err := h.listen(ctx, h.config.Listen)
	if err != nil {
		return err
	}
	plain, err := h.listen(ctx, h.config.StatusListen)
	if err != nil {
		return err
	}
	door, status := h.server(h.door()), h.server(h.statusDoor())
	door.TLSConfig, door.ConnContext = h.tls(), h.est.ConnContext
	door.RegisterOnShutdown(h.console.Drain)
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error { return ended(door.ServeTLS(secure, "", "")) })
	work.Go(func() error { return ended(status.Serve(plain)) })
	work.Go(func() error { return h.background(ctx) })
	if h.debugListen != "" {
		work.Go(func() error { return h.debug(ctx) })
	}
	if err := h.announce(secure.Addr(), plain.Addr()); err != nil {
		return err
	}
	<-ctx.Done()
	return errors.Join(h.drain(door, status), work.Wait())
}

// listen opens a TCP address with a bound on open connections.
func (h *house) listen(ctx context.Context, address string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", address, err)
	}
	return netutil.LimitListener(l, h.config.Limits.Connections), nil
}

func (h *house) server(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           h.bounded(handler),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    headerBytes,
		ErrorLog:          slog.NewLogLogger(h.log.Handler(), slog.LevelDebug),
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 32},
	}
}

// bounded keeps the requests in work below the configured number.
func (h *house) bounded(next http.Handler) http.Handler {
	slots := make(chan struct{}, h.config.Limits.Requests)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
			growStack(len(r.Method))
			next.ServeHTTP(w, r)
		default:
			w.Header().Set("Retry-After", "5")
			http.Error(w, "busy: too many requests in work; try again", http.StatusServiceUnavailable)
		}
	})
}

// growStack makes the goroutine's stack as large as a walk needs, while there
// is next to nothing on it. Left to itself it doubles four times on the way down
// through policy and database, and all that is on it is moved each time. The
// room is never entered, and so never cleared: that there could be is enough.
//
//go:noinline
func growStack(i int) byte {
	if i >= 0 {
		return 0
	}
	var room [40 << 10]byte // an index that the compiler does not know keeps it from being left out
	return room[-i%len(room)]
}

// tls is the configuration of the secure listener.
func (h *house) tls() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, // RFC 8996
		// Asked for, not required and not verified here: cacerts must answer without
		// one, and a bad one must become an answer that says so (RFC 7030, Section
		// 3.3.2). The walk looks at the chain.
		ClientAuth:     tls.RequestClientCert,
		GetCertificate: h.serverCertificate,
		// strongSwan reads an answer in at most two TLS records.
		DynamicRecordSizingDisabled: true,
		NextProtos:                  []string{"h2", "http/1.1"},
	}
}

// door sends each path to its door. It is no ServeMux because that answers
// odd paths with redirects, which EST clients do not follow.
func (h *house) door() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch path := r.URL.Path; {
		case est.Serves(path):
			h.est.ServeHTTP(w, r)
		case akca.Serves(path):
			h.akca.ServeHTTP(w, r)
		case strings.HasPrefix(path, "/api/"), strings.HasPrefix(path, "/log/"):
			h.console.ServeHTTP(w, r)
		default:
			http.Error(w, "nothing here: EST is at /.well-known/est/, the API at /api/v1/, the audit log at /log/, the attestation CA at /attestation/", http.StatusNotFound)
		}
	})
}

// background is everything that runs beside the doors.
func (h *house) background(ctx context.Context) error {
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error { return ended(h.auditLog.Run(ctx)) })
	work.Go(func() error { return h.forwarder.Run(ctx) })
	work.Go(func() error { return h.releases.Run(ctx) })
	work.Go(func() error { return h.puller.run(ctx) })
	work.Go(func() error { return h.boards[0].Run(ctx) }) // the root's is made when somebody asks
	work.Go(func() error { return h.renewServer(ctx) })
	if h.provider != nil {
		work.Go(func() error { return h.provider.Run(ctx) })
	}
	work.Go(func() error { return h.reloads(ctx) })
	return work.Wait()
}

// reloads reads policy and server certificate anew on SIGHUP.
func (h *house) reloads(ctx context.Context) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hup:
			notify("RELOADING=1")
			h.reload(ctx)
			notify("READY=1")
		}
	}
}

// announce says where the server is: to scripts in run.json, to systemd, to the log.
func (h *house) announce(secure, plain net.Addr) error {
	at, err := json.Marshal(map[string]any{"url": "https://" + local(secure), "status": "http://" + local(plain), "pid": os.Getpid()})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(h.dir, runFile), append(at, '\n'), 0o644); err != nil {
		return err
	}
	h.ready.Store(true)
	notify("READY=1")
	h.log.Info("ready", "est", "https://"+local(secure)+"/.well-known/est", "status", "http://"+local(plain), "policy", h.rules.Digest())
	return nil
}

// local is an address as this machine reaches it.
func local(a net.Addr) string {
	tcp, ok := a.(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return a.String()
	}
	return net.JoinHostPort("localhost", fmt.Sprint(tcp.Port))
}

// drain lets the requests in work end.
func (h *house) drain(servers ...*http.Server) error {
	h.ready.Store(false)
	notify("STOPPING=1")
	h.log.Info("draining")
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	var errs []error
	for _, s := range servers {
		errs = append(errs, s.Shutdown(ctx))
	}
	os.Remove(filepath.Join(h.dir, runFile))
	return errors.Join(errs...)
}

// debug serves pprof.
func (h *house) debug(ctx context.Context) error {
	s := &http.Server{Addr: h.debugListen, Handler: http.DefaultServeMux, ReadHeaderTimeout: headerTimeout}
	context.AfterFunc(ctx, func() { s.Close() })
	return ended(s.ListenAndServe())
}

// ended drops the errors that only say that something was told to stop.
func ended(err error) error {
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("%s takes no arguments, only flags; see %q", c.CommandPath(), c.CommandPath()+" --help")}
	}
	return nil
}
