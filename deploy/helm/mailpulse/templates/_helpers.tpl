{{- define "mailpulse.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 40 characters, because the names of services follow, and a label has at most 63. */}}
{{- define "mailpulse.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "mailpulse.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "mailpulse.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "mailpulse.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "mailpulse.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{/* Arguments: root, values. */}}
{{- define "mailpulse.image" -}}
{{- $image := .root.Values.image -}}
{{- if .values.imageTag -}}
{{- printf "%s:%s" $image.repository .values.imageTag -}}
{{- else if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository ($image.tag | default .root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- define "mailpulse.selectorLabels" -}}
app.kubernetes.io/name: {{ include "mailpulse.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "mailpulse.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "mailpulse.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/*
What the chart knows of each service: the section of its settings; for a service with HTTP besides the admin port, the
variable of the address and the port; for a service with a volume, the variable of the directory; the partitions that
its members share; and the label `component` of its lag.
*/}}
{{- define "mailpulse.facts" -}}
ingress: { section: INGRESS, listen: MAILPULSE__INGRESS__LISTEN, port: 8080, directory: MAILPULSE__INGRESS__SPOOL_DIRECTORY, path: /var/lib/mailpulse/spool, whenScaled: Retain }
enrich: { section: ENRICH, partitions: {{ int .Values.partitions.recipient }}, lag: enrich }
dedupe: { section: DEDUPE, directory: MAILPULSE__DEDUPE__DIRECTORY, path: /var/lib/mailpulse/dedupe, whenScaled: Delete, partitions: {{ int .Values.partitions.recipient }}, lag: dedupe }
monitor: { section: MONITOR, partitions: {{ max (int .Values.partitions.recipient) (int .Values.partitions.scope) }}, lag: monitor-.+ }
archive: { section: ARCHIVE, partitions: {{ max (int .Values.partitions.recipient) (int .Values.partitions.scope) }}, lag: archive }
notify: { section: NOTIFY, partitions: {{ int .Values.partitions.scope }}{{ if .Values.services.notify.acknowledgements.enabled }}, listen: MAILPULSE__NOTIFY__ACKNOWLEDGEMENTS__LISTEN, port: 9107{{ end }} }
console: { section: CONSOLE, listen: MAILPULSE__CONSOLE__LISTEN, port: 9180 }
suppress: { section: SUPPRESS, listen: MAILPULSE__SUPPRESS__LISTEN, port: 9181, partitions: {{ int .Values.partitions.recipient }} }
forward: { section: FORWARDING, partitions: {{ int .Values.partitions.recipient }} }
automate: { section: AUTOMATE, partitions: {{ int .Values.partitions.recipient }}, lag: automate-.+ }
{{- end -}}

{{/* How many seconds a pod has between SIGTERM and SIGKILL. Arguments: name, values. */}}
{{- define "mailpulse.grace" -}}
{{- if eq .name "ingress" -}}
{{- /* The time of preStop counts too. The rest is longer than ingress.drain_delay and ingress.drain_timeout. */ -}}
{{- add (int .values.spoolDrainSeconds) (int .values.drainDelaySeconds) (int .values.drainTimeoutSeconds) 10 -}}
{{- else -}}
{{- int .values.terminationGracePeriodSeconds -}}
{{- end -}}
{{- end -}}

{{/* The pod of a service. Arguments: root, name, values, fact. */}}
{{- define "mailpulse.pod" -}}
{{- $root := .root -}}
metadata:
  labels:
    {{- include "mailpulse.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .name }}
    {{- with $root.Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # Services read their settings at start, so a change must restart the pods.
    mailpulse/config: {{ $root.Values.config | sha256sum | trunc 16 | quote }}
    {{- with $root.Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "mailpulse.serviceAccount" $root }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "mailpulse.grace" . }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  {{- with $root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $root.Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $root.Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $root.Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $root.Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if $root.Values.topologySpread.enabled }}
  topologySpreadConstraints:
    {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: {{ $root.Values.topologySpread.whenUnsatisfiable }}
      labelSelector:
        matchLabels:
          {{- include "mailpulse.selectorLabels" $root | nindent 10 }}
          app.kubernetes.io/component: {{ $.name }}
    {{- end }}
  {{- end }}
  containers:
    - name: {{ .name }}
      image: {{ include "mailpulse.image" . }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      # The entrypoint of the image uses the name of the pod as the name of the instance.
      args: [{{ .name }}, --config, /etc/mailpulse/mailpulse.toml]
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      ports:
        - name: admin
          containerPort: 9100
        {{- if .fact.port }}
        - name: http
          containerPort: {{ int .fact.port }}
        {{- end }}
      env:
        - name: MAILPULSE__{{ .fact.section }}__ADMIN
          value: 0.0.0.0:9100
        {{- if .fact.port }}
        - name: {{ .fact.listen }}
          value: 0.0.0.0:{{ int .fact.port }}
        {{- end }}
        {{- if .fact.directory }}
        - name: {{ .fact.directory }}
          value: {{ .fact.path }}
        {{- end }}
        {{- if eq .name "ingress" }}
        - name: MAILPULSE__INGRESS__DRAIN_DELAY
          value: {{ int .values.drainDelaySeconds }}s
        - name: MAILPULSE__INGRESS__DRAIN_TIMEOUT
          value: {{ int .values.drainTimeoutSeconds }}s
        {{- end }}
        - name: MAILPULSE__SERVICE__LOG_FORMAT
          value: {{ $root.Values.logFormat }}
        - name: MAILPULSE__TOPICS__RECIPIENT_PARTITIONS
          value: {{ int $root.Values.partitions.recipient | quote }}
        - name: MAILPULSE__TOPICS__SCOPE_PARTITIONS
          value: {{ int $root.Values.partitions.scope | quote }}
        {{- with concat $root.Values.env .values.env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with concat $root.Values.envFrom .values.envFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- if .values.spoolDrainSeconds }}
      # The ingress goes on while this waits, and publishes its spool. Usually the spool is empty, and this takes a second.
      lifecycle:
        preStop:
          exec:
            command: [mailpulse, spool, drain, --wait, {{ int .values.spoolDrainSeconds }}s]
      {{- end }}
      # A service opens its admin port before it restores its state. A restore is alive for as long as it makes progress.
      startupProbe:
        httpGet: { path: /livez, port: admin }
        periodSeconds: 5
        timeoutSeconds: 3
        # Half an hour.
        failureThreshold: 360
      livenessProbe:
        httpGet: { path: /livez, port: admin }
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: { path: /readyz, port: admin }
        # A service that stops is not ready. The load balancer must know it within drainDelaySeconds.
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: 1
      {{- with .values.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        - name: config
          mountPath: /etc/mailpulse
          readOnly: true
        {{- if .fact.directory }}
        - name: data
          mountPath: /var/lib/mailpulse
        {{- end }}
        {{- with concat $root.Values.extraVolumeMounts .values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: config
      {{- if $root.Values.configSecret.name }}
      secret:
        secretName: {{ $root.Values.configSecret.name }}
        items:
          - key: {{ $root.Values.configSecret.key }}
            path: mailpulse.toml
      {{- else }}
      configMap:
        name: {{ include "mailpulse.fullname" $root }}
      {{- end }}
    {{- with concat $root.Values.extraVolumes .values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
