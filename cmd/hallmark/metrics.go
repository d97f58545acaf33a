package main

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/policy"
	"github.com/hallmark-pki/hallmark/policy/release"
	"github.com/hallmark-pki/hallmark/policy/source"
)

// metrics are what the rooms report through their Observe fields. No room
// knows Prometheus.
type metrics struct {
	registry  *prometheus.Registry
	requests  *prometheus.CounterVec   // EST requests by operation and status
	latency   *prometheus.HistogramVec // their duration
	decisions *prometheus.CounterVec
	deciding  prometheus.Histogram
	batch     prometheus.Histogram
	commit    prometheus.Histogram
	sequenced prometheus.Counter
	stuck     prometheus.Counter
	lag       prometheus.Gauge
	api       *prometheus.CounterVec
	evidence  *prometheus.CounterVec // appraised, by case, verdict and reason of a refusal
	keys      *prometheus.CounterVec // requests to certify attestation keys

	withdrawn *prometheus.CounterVec // certificates revoked here, by reason
	published prometheus.Counter
	withheld  prometheus.Counter
	effect    prometheus.Histogram
	ocsp      *prometheus.CounterVec

	breakglass prometheus.Counter
	looks      *prometheus.CounterVec // at the bundle server that rules are pulled from
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hallmark_est_requests_total", Help: "EST requests by operation and HTTP status."}, []string{"operation", "status"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "hallmark_est_duration_seconds", Help: "Time to answer an EST request.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14)}, []string{"operation"}),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hallmark_decisions_total", Help: "Policy decisions by action and verdict."}, []string{"action", "verdict"}),
		deciding: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "hallmark_decision_duration_seconds", Help: "Time to evaluate the policy.",
			Buckets: prometheus.ExponentialBuckets(0.00002, 2, 14)}),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "hallmark_commit_batch_size", Help: "Calls that shared one database transaction.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 9)}),
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "hallmark_commit_duration_seconds", Help: "Time of one database transaction, sync included.",
			Buckets: prometheus.ExponentialBuckets(0.0002, 2, 14)}),
		sequenced: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hallmark_log_entries_sequenced_total", Help: "Entries given their index in the audit log by this process."}),
		stuck: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hallmark_log_failures_total", Help: "Steps of the audit log that failed."}),
		lag: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "hallmark_log_lag_seconds", Help: "Age of the oldest entry when the audit log last gave out indexes."}),
		api: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hallmark_api_requests_total", Help: "Management API requests by action and HTTP status."}, []string{"action", "status"}),
		evidence: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hallmark_attestations_total", Help: "Evidence of TPMs by case, verdict and, where it was refused, reason."}, []string{"case", "verdict", "reason"}),
		keys: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hallmark_akca_requests_total", Help: "Requests to certify attestation keys by operation and HTTP status."}, []string{"operation", "status"}),
		looks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hallmark_policy_source_looks_total", Help: "Looks at the bundle server that rules are pulled from, by how they ended."}, []string{"outcome"}),
		breakglass: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hallmark_breakglass_opened_total", Help: "Break-glass credentials opened at this process. Each one is an incident."}),
	}
	m.countStatus()
	m.registry.MustRegister(m.breakglass, m.evidence, m.keys, m.requests, m.latency, m.decisions, m.deciding, m.batch, m.commit, m.sequenced, m.stuck, m.lag, m.api,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

// expires reports until when a certificate of our own is good.
func (m *metrics) expires(name string, until func() time.Time) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "hallmark_certificate_expiry_timestamp_seconds", Help: "When a certificate of our own expires, in seconds since 1970.",
		ConstLabels: prometheus.Labels{"certificate": name}},
		func() float64 { return float64(until().Unix()) }))
}

// released reports which rules this process answers with.
func (m *metrics) released(r *release.Running) {
	m.registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hallmark_policy_revision", Help: "Revision of the policy in force here; 0 is the policy directory."},
			func() float64 { return float64(r.Course().Revision) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hallmark_policy_behind", Help: "1 while this process cannot load the policy that is in force, and answers with an earlier one."},
			func() float64 {
				if r.Behind() != nil {
					return 1
				}
				return 0
			}),
	)
}

// pulled reports on the bundle server that rules are pulled from.
func (m *metrics) pulled(p *puller) {
	m.registry.MustRegister(m.looks,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hallmark_policy_source_failing", Help: "1 while the bundle server that rules are pulled from does not answer, or what it sends is refused."},
			func() float64 {
				if at := p.status(); at != nil && (at.Failure != "" || at.Outcome == source.Refused) {
					return 1
				}
				return 0
			}),
	)
}

// looked is told how a look at the bundle server ended.
func (m *metrics) looked(outcome string) { m.looks.WithLabelValues(outcome).Inc() }

// sequencing is told of each step of the audit log.
func (m *metrics) sequencing(step audit.Step) {
	if step.Err != nil {
		m.stuck.Inc()
		return
	}
	m.sequenced.Add(float64(step.Leaves))
	m.lag.Set(step.Lag.Seconds())
}

func (m *metrics) est(operation string, status int, took time.Duration) {
	m.requests.WithLabelValues(operation, strconv.Itoa(status)).Inc()
	m.latency.WithLabelValues(operation).Observe(took.Seconds())
}

// akca is told of each answer of the door for attestation keys.
func (m *metrics) akca(operation string, status int, _ time.Duration) {
	m.keys.WithLabelValues(operation, strconv.Itoa(status)).Inc()
}

// appraised is told what evidence came to. The labels come from closed lists.
func (m *metrics) appraised(r *attest.Result, refused attest.Reason) {
	m.evidence.WithLabelValues(string(r.Case), r.Verdict.String(), string(refused)).Inc()
}

func (m *metrics) decided(a policy.Action, v policy.Verdict, took time.Duration) {
	m.decisions.WithLabelValues(string(a), v.String()).Inc()
	m.deciding.Observe(took.Seconds())
}

func (m *metrics) committed(batch int, took time.Duration) {
	m.batch.Observe(float64(batch))
	m.commit.Observe(took.Seconds())
}

func (m *metrics) called(action string, status int) {
	m.api.WithLabelValues(action, strconv.Itoa(status)).Inc()
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}
