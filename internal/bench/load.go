package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// target is a running EST server as the load sees it.
type target struct {
	addr  string
	roots *x509.CertPool
	tls   *tls.Config
	token string
}

// newTarget pins the server certificate after one proper verification against
// the root, so that each of thousands of handshakes need not verify the chain
// again on the client's side. The handshake's own signature is always verified.
func newTarget(addr, rootPath, token string) (*target, error) {
	root, err := os.ReadFile(rootPath)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(root) {
		return nil, fmt.Errorf("no certificate in %s", rootPath)
	}
	first, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: pool, ServerName: "localhost"})
	if err != nil {
		return nil, err
	}
	defer first.Close()
	pinned := first.ConnectionState().PeerCertificates[0].Raw
	t := &target{addr: addr, roots: pool, token: token}
	t.tls = &tls.Config{
		ServerName:                  "localhost",
		DynamicRecordSizingDisabled: true, // as our agent has it: event logs are long, and other requests fit into one record
		InsecureSkipVerify:          true, // replaced by the comparison below
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
			if !bytes.Equal(raw[0], pinned) {
				return errors.New("another server certificate than before")
			}
			return nil
		},
	}
	return t, nil
}

// connection is one TLS connection that speaks as much HTTP/1.1 as EST needs.
type connection struct {
	tls *tls.Conn
	r   *bufio.Reader
}

func (t *target) dial(ctx context.Context, credential *tls.Certificate) (*connection, error) {
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", t.addr)
	if err != nil {
		return nil, err
	}
	config := t.tls
	if credential != nil {
		config = t.tls.Clone()
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return credential, nil }
	}
	c := tls.Client(raw, config)
	if err := c.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, err
	}
	return &connection{tls: c, r: bufio.NewReader(c)}, nil
}

func (c *connection) Close() { c.tls.Close() }

// post sends the device's certification request.
func (c *connection) post(operation, token string, d *identity) error {
	return c.send(operation, "application/pkcs10", token, d)
}

// send sends d.body, with the token unless that is empty, and keeps the answer in d.reply.
func (c *connection) send(operation, kind, token string, d *identity) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST /.well-known/est/%s HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nContent-Length: %d\r\n", operation, kind, len(d.body))
	if token != "" {
		fmt.Fprintf(&b, "Authorization: Basic %s\r\n", base64.StdEncoding.EncodeToString([]byte(d.id+":"+token)))
	}
	b.WriteString("\r\n")
	b.Write(d.body)
	if _, err := c.tls.Write(b.Bytes()); err != nil {
		return err
	}
	response, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if d.reply, err = io.ReadAll(response.Body); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s of %s: %s: %s", operation, d.id, response.Status, bytes.TrimSpace(d.reply))
	}
	return nil
}

// A scenario is one way to bring the devices to the server.
type scenario struct {
	name, title string
	target      float64 // the ratio to the floor not to be exceeded
}

var scenarios = []scenario{
	{"fresh", "fresh, token", 1.25},
	{"factory", "fresh, factory cert", 1.25},
	{"kept", "kept alive, token", 1.5},
	{"renew", "renewal, fresh", 1.2},
}

// factory enrols over a connection of its own, with the maker's certificate.
func (t *target) factory(ctx context.Context, d *identity) error {
	c, err := t.dial(ctx, d.factory)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.post("simpleenroll", "", d)
}

// once enrols over a connection of its own: a full handshake, no resumption.
func (t *target) once(ctx context.Context, d *identity) error {
	c, err := t.dial(ctx, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.post("simpleenroll", t.token, d)
}

// renew renews over a connection of its own, with the certificate held.
func (t *target) renew(ctx context.Context, d *identity) error {
	c, err := t.dial(ctx, d.credential())
	if err != nil {
		return err
	}
	defer c.Close()
	return c.post("simplereenroll", "", d)
}

// closed runs c clients, each of which starts its next enrolment when the last
// is answered. It returns the latencies and the time for all.
func (t *target) closed(ctx context.Context, kind string, c int, devices []*identity) ([]time.Duration, time.Duration, error) {
	latencies, wall, err := inTurn(ctx, c, len(devices), func(ctx context.Context, work func(do func(i int) error) error) error {
		switch kind {
		case "factory":
			return work(func(i int) error { return t.factory(ctx, devices[i]) })
		case "renew":
			return work(func(i int) error { return t.renew(ctx, devices[i]) })
		case "kept":
			conn, err := t.dial(ctx, nil)
			if err != nil {
				return err
			}
			defer conn.Close()
			return work(func(i int) error { return conn.post("simpleenroll", t.token, devices[i]) })
		}
		return work(func(i int) error { return t.once(ctx, devices[i]) })
	})
	if err == nil {
		err = settle(devices)
	}
	return latencies, wall, err
}

// inTurn runs c clients that share n pieces of work: each hands what it does
// with one to work, which calls it until there are none left.
func inTurn(ctx context.Context, c, n int, client func(ctx context.Context, work func(do func(i int) error) error) error) ([]time.Duration, time.Duration, error) {
	latencies := make([]time.Duration, n)
	var next atomic.Int64
	start := time.Now()
	err := together(ctx, c, func(ctx context.Context) error {
		return client(ctx, func(do func(i int) error) error {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return nil
				}
				start := time.Now()
				if err := do(i); err != nil {
					return err
				}
				latencies[i] = time.Since(start)
			}
			return ctx.Err()
		})
	})
	return latencies, time.Since(start), err
}

// together runs n workers and returns the first error, which stops the others.
func together(ctx context.Context, n int, worker func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if err := worker(ctx); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// open starts enrolments over fresh connections at random times, rate a second
// on average, whether or not earlier ones are answered: what a factory does.
// Latencies count from the time an enrolment was due.
func (t *target) open(ctx context.Context, rate int, devices []*identity) ([]time.Duration, error) {
	latencies := make([]time.Duration, len(devices))
	arrivals := rand.New(rand.NewPCG(1, 2)) // the same for floor and product
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	due := time.Now()
	for i, d := range devices {
		due = due.Add(time.Duration(arrivals.ExpFloat64() / float64(rate) * float64(time.Second)))
		time.Sleep(time.Until(due))
		if ctx.Err() != nil {
			break
		}
		start := due
		wg.Go(func() {
			if err := t.once(ctx, d); err != nil {
				cancel(err)
			}
			latencies[i] = time.Since(start)
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	return latencies, settle(devices)
}
