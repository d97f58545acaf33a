package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// footprint is what many certificates leave behind.
type footprint struct {
	resident, peak int64         // bytes
	perCert        float64       // bytes on disk
	start          time.Duration // median, from exec to the first certificate
	commits        batches
}

const restarts = 5 // starts on the full directory, of which the median counts

// size issues many certificates on a new directory and looks at memory, disk
// and the time to the first certificate after a start.
func (b *bench) size(ctx context.Context) (err error) {
	s, err := newProduct(b.options, filepath.Join(b.dir, "size"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := errors.Join(s.start(), s.ready(ctx)); err != nil {
		return err
	}
	devices, err := newIdentities(0, b.Certs+restarts, nil)
	if err != nil {
		return err
	}
	token, err := s.prepare(ctx, len(devices), b.makerFile())
	if err != nil {
		return err
	}
	// The register's own size and the memory that the import took are not the question.
	if err := s.stop(); err != nil {
		return err
	}
	f, err := b.issueAll(ctx, s, token, devices[:b.Certs])
	if err != nil {
		return err
	}
	if f.start, err = b.restart(ctx, s, token, devices[b.Certs:]); err != nil {
		return err
	}
	b.sizeTable(f)
	return nil
}

// issueAll issues to all devices, and stops the server.
func (b *bench) issueAll(ctx context.Context, s *server, token string, devices []*identity) (footprint, error) {
	var f footprint
	before, err := diskUse(s.dir)
	if err != nil {
		return f, err
	}
	if err := errors.Join(s.start(), s.ready(ctx)); err != nil {
		return f, err
	}
	t, err := newTarget(s.addr, filepath.Join(s.dir, "root.crt"), token)
	if err != nil {
		return f, err
	}
	if _, _, err := t.closed(ctx, "kept", b.C, devices); err != nil {
		return f, err
	}
	time.Sleep(b.Settle) // until the log has taken the last leaves in
	var err1, err2, err3 error
	f.resident, err1 = memory(s.cmd.Process.Pid, "VmRSS")
	f.peak, err2 = memory(s.cmd.Process.Pid, "VmHWM")
	f.commits, err3 = s.commits(ctx)
	if err := errors.Join(err1, err2, err3, s.stop()); err != nil {
		return f, err
	}
	after, err := diskUse(s.dir)
	f.perCert = float64(after-before) / float64(len(devices))
	return f, err
}

// restart measures the time from exec to the first certificate, once per device.
func (b *bench) restart(ctx context.Context, s *server, token string, devices []*identity) (time.Duration, error) {
	var times []time.Duration
	t, err := b.pinned(ctx, s, token)
	if err != nil {
		return 0, err
	}
	for _, d := range devices {
		start := time.Now()
		if err := s.start(); err != nil {
			return 0, err
		}
		for {
			err := t.once(ctx, d)
			if err == nil {
				break
			}
			if time.Since(start) > 30*time.Second {
				return 0, fmt.Errorf("no certificate after a start: %w", err)
			}
			time.Sleep(time.Millisecond)
		}
		times = append(times, time.Since(start))
		if err := errors.Join(settle([]*identity{d}), s.stop()); err != nil {
			return 0, err
		}
	}
	return percentile(times, 50), nil
}

// pinned makes a target while the server runs, for use after its next start:
// the server certificate is then verified by the handshake against the root only.
func (b *bench) pinned(ctx context.Context, s *server, token string) (*target, error) {
	if err := errors.Join(s.start(), s.ready(ctx)); err != nil {
		return nil, err
	}
	t, err := newTarget(s.addr, filepath.Join(s.dir, "root.crt"), token)
	if err != nil {
		return nil, errors.Join(err, s.stop())
	}
	t.tls = &tls.Config{RootCAs: t.roots, ServerName: "localhost"} // a start may renew the server certificate
	return t, s.stop()
}
