package main

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/ca/keys"
	"github.com/hallmark-pki/hallmark/ca/status"
)

// openStatus puts up what says whether certificates still count: for those of
// devices, and for the issuing certificate.
func (h *house) openStatus(ctx context.Context) error {
	addresses, err := h.db.Addresses(ctx, h.config.StatusURL, time.Now())
	if err != nil {
		return err
	}
	c := status.Config{
		Issuer: h.issuer, Ledger: h.db, Shelf: h.db, URLs: addresses, Shards: ca.DefaultCRLShards,
		ListLife: time.Duration(h.config.Revocation.ListLife), AnswerLife: time.Duration(h.config.Revocation.AnswerLife),
		Record: h.db.Append, Logger: h.log, Published: h.metrics.publishing, Answered: h.metrics.answered,
	}
	board, err := status.New(ctx, c)
	if err != nil {
		return fmt.Errorf("reading what is revoked: %w", err)
	}
	h.boards = []*status.Board{board}
	h.metrics.status(board)

	chain := h.authority.Chain()[1:]
	signer, err := keys.Ring{Dir: h.dir}.Open(ctx, h.config.Keys.Root)
	if err != nil {
		h.log.Info("the root's key is not at hand: the list of what the root has revoked is served as long as the last one is good", "reason", err)
		signer = absent{chain[0].PublicKey}
	}
	root, err := ca.NewLocal(signer, chain)
	if err != nil {
		return err
	}
	c.Issuer, c.Shards, c.ListLife = root, 0, time.Duration(h.config.Revocation.RootListLife)
	if board, err = status.New(ctx, c); err != nil {
		return err
	}
	h.boards = append(h.boards, board)
	return nil
}

// absent is a key that is kept elsewhere, as a root's should be.
type absent struct{ public crypto.PublicKey }

// Public implements crypto.Signer.
func (a absent) Public() crypto.PublicKey { return a.public }

// Sign implements crypto.Signer.
func (absent) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("the root's key is not at hand (keys.root)")
}

// statusBoards is the door to what they say.
func (h *house) statusBoards() *status.Door { return &status.Door{Boards: h.boards} }

// countStatus makes the metrics of revocation.
func (m *metrics) countStatus() {
	m.withdrawn = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "hallmark_revoked_certificates_total", Help: "Certificates revoked at this process, by reason."}, []string{"reason"})
	m.published = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "hallmark_crl_published_total", Help: "Revocation lists made by this process."})
	m.withheld = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "hallmark_crl_failures_total", Help: "Attempts to make revocation lists that failed."})
	m.effect = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "hallmark_revocation_publish_seconds", Help: "From the decision to revoke to the list and the OCSP answers that tell of it, at this process.",
		Buckets: prometheus.ExponentialBuckets(0.005, 2, 14)})
	m.ocsp = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "hallmark_ocsp_responses_total", Help: "OCSP answers, by what they say."}, []string{"answer"})
	m.registry.MustRegister(m.withdrawn, m.published, m.withheld, m.effect, m.ocsp)
}

// status reports on the board of the issuer.
func (m *metrics) status(b *status.Board) {
	m.registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hallmark_crl_overdue", Help: "Revocation lists that cannot be served: they lack a revocation, or their time is over."},
			func() float64 { return float64(b.Overdue()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hallmark_crl_entries", Help: "Revoked certificates that the lists tell of."},
			func() float64 { return float64(b.Revoked()) }),
	)
}

func (m *metrics) revoked(reason string, n int) { m.withdrawn.WithLabelValues(reason).Add(float64(n)) }

// publishing is told of each publication of lists.
func (m *metrics) publishing(lists int, lag time.Duration, err error) {
	m.published.Add(float64(lists))
	if err != nil {
		m.withheld.Inc()
		return
	}
	if lag > 0 {
		m.effect.Observe(lag.Seconds())
	}
}

func (m *metrics) answered(what string) { m.ocsp.WithLabelValues(what).Inc() }
