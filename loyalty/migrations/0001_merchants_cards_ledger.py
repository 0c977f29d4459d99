from decimal import Decimal

import django.contrib.postgres.fields
import django.contrib.postgres.indexes
import django.core.validators
import django.db.models.deletion
import django.db.models.functions.datetime
import django.db.models.functions.text
import pgtrigger.compiler
import pgtrigger.migrations
from django.conf import settings
from django.db import migrations, models

import loyalty.models.card
import loyalty.models.merchant


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Merchant",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=120)),
                ("slug", models.SlugField(max_length=60, unique=True)),
                (
                    "timezone",
                    models.CharField(
                        default="UTC",
                        help_text="Decides when a day begins, and so the last day points can be used.",
                        max_length=64,
                        validators=[loyalty.models.merchant.validate_timezone],
                    ),
                ),
                (
                    "currency",
                    models.CharField(
                        help_text="ISO 4217. Cannot change once a transaction exists.",
                        max_length=3,
                        validators=[loyalty.models.merchant.validate_currency],
                    ),
                ),
                (
                    "country",
                    models.CharField(
                        blank=True,
                        max_length=2,
                        validators=[
                            django.core.validators.RegexValidator("^[A-Z]{2}$", "Two capital letters, such as LU.")
                        ],
                    ),
                ),
                (
                    "locale",
                    models.CharField(
                        default="en", help_text="For customers who have not chosen a language.", max_length=16
                    ),
                ),
                (
                    "support_email",
                    models.EmailField(
                        blank=True, help_text="Where customers' answers to our messages go.", max_length=254
                    ),
                ),
                ("is_active", models.BooleanField(default=True)),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(condition=models.Q(("slug", ""), _negated=True), name="merchant_has_a_slug"),
                    models.CheckConstraint(
                        condition=models.Q(("currency__regex", "^[A-Z]{3}$")), name="merchant_currency_is_iso"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Membership",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("role", models.CharField(choices=[("manager", "Manager"), ("support", "Support")], max_length=12)),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
                (
                    "merchant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="memberships", to="loyalty.merchant"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="IdempotencyKey",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("key", models.CharField(max_length=128)),
                ("fingerprint", models.CharField(help_text="SHA-256 of method, path and body.", max_length=64)),
                ("status", models.PositiveSmallIntegerField(help_text="The HTTP status that was answered.")),
                ("answer", models.JSONField(help_text="The ids of the rows from which the answer is rendered again.")),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
                (
                    "merchant",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="loyalty.merchant",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="ExpirationRun",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "trigger",
                    models.CharField(
                        choices=[("schedule", "Schedule"), ("command", "Command"), ("admin", "Admin"), ("api", "Api")],
                        max_length=8,
                    ),
                ),
                ("as_of", models.DateTimeField(help_text="The moment for which it decided what is due.")),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("running", "Running"),
                            ("succeeded", "Succeeded"),
                            ("partial", "Partial"),
                            ("failed", "Failed"),
                            ("refused", "Refused"),
                        ],
                        default="running",
                        max_length=9,
                    ),
                ),
                ("started_at", models.DateTimeField()),
                ("finished_at", models.DateTimeField(blank=True, null=True)),
                ("programs", models.PositiveIntegerField(default=0)),
                ("cards_expired", models.PositiveIntegerField(default=0)),
                ("points_expired", models.PositiveBigIntegerField(default=0)),
                ("warnings", models.PositiveIntegerField(default=0)),
                ("skipped_locked", models.PositiveIntegerField(default=0)),
                ("skipped_exempt", models.PositiveIntegerField(default=0)),
                ("failed", models.PositiveIntegerField(default=0)),
                (
                    "failed_card_ids",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.BigIntegerField(), blank=True, default=list, size=None
                    ),
                ),
                ("without_notice", models.BooleanField(default=False, help_text="The plain rule was applied once.")),
                ("reason", models.CharField(blank=True, max_length=500)),
                ("initiated_by", models.CharField(blank=True, max_length=150)),
                ("error", models.TextField(blank=True)),
                (
                    "merchant",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="loyalty.merchant",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Customer",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("first_name", models.CharField(blank=True, max_length=80)),
                ("last_name", models.CharField(blank=True, max_length=80)),
                ("email", models.EmailField(blank=True, max_length=254, verbose_name="e-mail")),
                ("phone", models.CharField(blank=True, help_text="E.164, such as +352621123456.", max_length=16)),
                ("birth_date", models.DateField(blank=True, null=True)),
                ("locale", models.CharField(blank=True, max_length=16)),
                (
                    "external_id",
                    models.CharField(blank=True, help_text="The customer's name in another system.", max_length=80),
                ),
                ("terms_accepted_at", models.DateTimeField(blank=True, null=True)),
                ("marketing_consent_at", models.DateTimeField(blank=True, null=True)),
                ("created_at", models.DateTimeField()),
                ("erased_at", models.DateTimeField(blank=True, null=True)),
                (
                    "merchant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="customers", to="loyalty.merchant"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="CardImport",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("file_name", models.CharField(max_length=255)),
                ("sha256", models.CharField(max_length=64)),
                ("actor", models.CharField(max_length=150)),
                ("rows", models.PositiveIntegerField(default=0)),
                ("imported", models.PositiveIntegerField(default=0)),
                (
                    "skipped",
                    models.PositiveIntegerField(default=0, help_text="Rows with problems, left out on request."),
                ),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
                ("finished_at", models.DateTimeField(blank=True, null=True)),
                (
                    "merchant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="loyalty.merchant"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Program",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "name",
                    models.CharField(
                        help_text="What customers read on their card.", max_length=80, verbose_name="card name"
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[("points", "Points"), ("stamps", "Stamps"), ("hybrid", "Hybrid")],
                        default="points",
                        max_length=8,
                    ),
                ),
                ("is_active", models.BooleanField(default=True)),
                (
                    "points_per_unit",
                    models.DecimalField(
                        decimal_places=4,
                        default=Decimal("1"),
                        help_text="Points for one unit of the currency, such as one euro.",
                        max_digits=10,
                    ),
                ),
                (
                    "minimum_purchase_minor",
                    models.PositiveBigIntegerField(
                        default=0, help_text="In minor units.", verbose_name="minimum purchase"
                    ),
                ),
                ("welcome_bonus_points", models.PositiveIntegerField(default=0)),
                ("minimum_redemption_points", models.PositiveIntegerField(default=0)),
                (
                    "point_value_minor",
                    models.PositiveIntegerField(
                        default=0,
                        help_text="In minor units: for liability and for points as a discount.",
                        verbose_name="value of a point",
                    ),
                ),
                ("max_points_per_transaction", models.PositiveIntegerField(blank=True, null=True)),
                (
                    "max_daily_earns",
                    models.PositiveSmallIntegerField(blank=True, help_text="Per card and local day.", null=True),
                ),
                ("stamps_target", models.PositiveSmallIntegerField(default=10)),
                ("stamps_reward", models.CharField(blank=True, max_length=120)),
                (
                    "cooldown_minutes",
                    models.PositiveSmallIntegerField(
                        default=15, help_text="In minutes.", verbose_name="stamp cooldown"
                    ),
                ),
                ("max_daily_stamps", models.PositiveSmallIntegerField(default=5)),
                (
                    "points_expiration_days",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="Idle points expire after this many days. Empty or 0: never.",
                        null=True,
                        validators=[django.core.validators.MaxValueValidator(3650)],
                    ),
                ),
                (
                    "expiration_warning_days",
                    models.PositiveIntegerField(
                        default=14,
                        help_text="Customers are warned this many days before, and always have this many days after the warning.",
                        validators=[django.core.validators.MaxValueValidator(365)],
                    ),
                ),
                (
                    "require_expiration_notice",
                    models.BooleanField(
                        default=True,
                        help_text="Nothing expires without an earlier warning. Off: older than the limit is gone.",
                    ),
                ),
                (
                    "expiration_paused_until",
                    models.DateField(
                        blank=True,
                        help_text="Up to and including this day nothing is warned about and nothing expires.",
                        null=True,
                    ),
                ),
                (
                    "staff_pin_policy",
                    models.CharField(
                        choices=[("required", "Required"), ("optional", "Optional"), ("disabled", "Disabled")],
                        default="required",
                        max_length=8,
                    ),
                ),
                (
                    "pin_attempts",
                    models.PositiveSmallIntegerField(
                        default=5, validators=[django.core.validators.MinValueValidator(1)]
                    ),
                ),
                (
                    "pin_lock_minutes",
                    models.PositiveSmallIntegerField(
                        default=30, validators=[django.core.validators.MinValueValidator(1)]
                    ),
                ),
                ("allow_void", models.BooleanField(default=True)),
                ("void_window_hours", models.PositiveSmallIntegerField(default=72)),
                (
                    "refund_policy",
                    models.CharField(
                        choices=[
                            ("clamp", "take the balance to zero and record the shortfall"),
                            ("block", "refuse the refund"),
                        ],
                        default="clamp",
                        max_length=5,
                    ),
                ),
                ("require_receipt_number", models.BooleanField(default=False)),
                ("allow_self_enrollment", models.BooleanField(default=True)),
                (
                    "allow_cross_store",
                    models.BooleanField(default=True, help_text="Cards work in every store of the merchant."),
                ),
                (
                    "log_client_address",
                    models.BooleanField(default=False, help_text="Keep the network address of tills."),
                ),
                (
                    "barcode",
                    models.CharField(choices=[("qr", "QR code"), ("code128", "Code 128")], default="qr", max_length=7),
                ),
                (
                    "background_colour",
                    models.CharField(
                        default="#1d3557",
                        max_length=7,
                        validators=[
                            django.core.validators.RegexValidator("^#[0-9a-fA-F]{6}$", "A colour such as #1a2b3c.")
                        ],
                    ),
                ),
                (
                    "text_colour",
                    models.CharField(
                        default="#ffffff",
                        max_length=7,
                        validators=[
                            django.core.validators.RegexValidator("^#[0-9a-fA-F]{6}$", "A colour such as #1a2b3c.")
                        ],
                    ),
                ),
                ("logo_url", models.URLField(blank=True, verbose_name="logo URL")),
                ("terms_text", models.TextField(blank=True)),
                ("terms_url", models.URLField(blank=True, verbose_name="terms URL")),
                ("privacy_url", models.URLField(blank=True, verbose_name="privacy URL")),
                (
                    "version",
                    models.PositiveIntegerField(default=1, editable=False, help_text="Grows with every change."),
                ),
                (
                    "merchant",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT, related_name="program", to="loyalty.merchant"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="PolicyChange",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("old_policy", models.JSONField()),
                ("new_policy", models.JSONField()),
                ("impact", models.JSONField(help_text="The impact that was shown before the change was confirmed.")),
                ("actor", models.CharField(max_length=150)),
                ("reason", models.CharField(blank=True, max_length=500)),
                ("changed_at", models.DateTimeField()),
                (
                    "program",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="policy_changes", to="loyalty.program"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Reward",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=120)),
                ("points_cost", models.PositiveIntegerField(validators=[django.core.validators.MinValueValidator(1)])),
                ("stock", models.PositiveIntegerField(blank=True, help_text="Empty: unlimited.", null=True)),
                ("active_from", models.DateField(blank=True, null=True)),
                ("active_to", models.DateField(blank=True, help_text="The last day.", null=True)),
                ("is_active", models.BooleanField(default=True)),
                (
                    "program",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="rewards", to="loyalty.program"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="StaffMember",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("display_name", models.CharField(max_length=80)),
                (
                    "role",
                    models.CharField(
                        choices=[("cashier", "Cashier"), ("supervisor", "Supervisor"), ("manager", "Manager")],
                        default="cashier",
                        max_length=12,
                    ),
                ),
                ("pin_hash", models.CharField(blank=True, max_length=200)),
                ("failed_attempts", models.PositiveSmallIntegerField(default=0)),
                ("locked_until", models.DateTimeField(blank=True, null=True)),
                ("is_active", models.BooleanField(default=True)),
                (
                    "merchant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="staff_members", to="loyalty.merchant"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Store",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=120)),
                ("code", models.SlugField(max_length=40)),
                ("is_active", models.BooleanField(default=True)),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
                (
                    "merchant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="stores", to="loyalty.merchant"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="StaffSession",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("token_hash", models.CharField(help_text="SHA-256 of the token.", max_length=64, unique=True)),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
                ("expires_at", models.DateTimeField()),
                (
                    "staff_member",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="sessions", to="loyalty.staffmember"
                    ),
                ),
                (
                    "store",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="loyalty.store"
                    ),
                ),
            ],
        ),
        migrations.AddField(
            model_name="staffmember",
            name="stores",
            field=models.ManyToManyField(blank=True, related_name="staff_members", to="loyalty.store"),
        ),
        migrations.CreateModel(
            name="Card",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "card_number",
                    models.CharField(default=loyalty.models.card.new_card_number, max_length=12, unique=True),
                ),
                (
                    "qr_token",
                    models.CharField(
                        default=loyalty.models.card.new_qr_token, max_length=32, unique=True, verbose_name="QR token"
                    ),
                ),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("active", "Active"),
                            ("suspended", "Suspended"),
                            ("closed", "Closed"),
                            ("merged", "Merged"),
                            ("erased", "Erased"),
                        ],
                        default="active",
                        max_length=9,
                    ),
                ),
                ("expiration_exempt", models.BooleanField(default=False, verbose_name="exempt from expiry")),
                ("expiration_exempt_reason", models.CharField(blank=True, max_length=500, verbose_name="why exempt")),
                ("created_at", models.DateTimeField()),
                (
                    "merged_into",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="loyalty.card",
                    ),
                ),
                (
                    "customer",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="cards", to="loyalty.customer"
                    ),
                ),
                (
                    "program",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="cards", to="loyalty.program"
                    ),
                ),
                (
                    "enrolled_at_store",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="loyalty.store",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Campaign",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=80)),
                ("multiplier", models.DecimalField(decimal_places=2, default=Decimal("1"), max_digits=6)),
                ("bonus_points", models.PositiveIntegerField(default=0)),
                ("starts_at", models.DateTimeField()),
                ("ends_at", models.DateTimeField()),
                (
                    "weekdays",
                    models.CharField(
                        blank=True,
                        help_text="Digits from 1 (Monday) to 7 (Sunday). Empty: every day.",
                        max_length=7,
                        validators=[
                            django.core.validators.RegexValidator(
                                "^(?!.*(.).*\\1)[1-7]+$", "Digits from 1 (Monday) to 7 (Sunday), each once."
                            )
                        ],
                    ),
                ),
                (
                    "minimum_purchase_minor",
                    models.PositiveBigIntegerField(
                        default=0, help_text="In minor units.", verbose_name="minimum purchase"
                    ),
                ),
                ("is_active", models.BooleanField(default=True)),
                (
                    "program",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="campaigns", to="loyalty.program"
                    ),
                ),
                (
                    "stores",
                    models.ManyToManyField(
                        blank=True, help_text="None: all stores.", related_name="+", to="loyalty.store"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="StoreApiKey",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("label", models.CharField(max_length=80)),
                ("prefix", models.CharField(help_text="The visible beginning of the key.", max_length=12)),
                ("key_hash", models.CharField(help_text="SHA-256 of the key.", max_length=64, unique=True)),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
                ("last_used_at", models.DateTimeField(blank=True, null=True)),
                ("revoked_at", models.DateTimeField(blank=True, null=True)),
                ("expires_at", models.DateTimeField(blank=True, null=True)),
                (
                    "store",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="api_keys", to="loyalty.store"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Transaction",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("seq", models.PositiveIntegerField(help_text="1, 2, 3, ... without a gap on each card.")),
                (
                    "type",
                    models.CharField(
                        choices=[
                            ("CARD_CREATED", "card created"),
                            ("WELCOME_BONUS", "welcome bonus"),
                            ("POINTS_EARNED", "points earned"),
                            ("POINTS_REDEEMED", "points redeemed"),
                            ("STAMP_EARNED", "stamp earned"),
                            ("STAMP_REDEEMED", "stamps redeemed"),
                            ("POINTS_VOIDED", "points voided"),
                            ("STAMP_VOIDED", "stamp voided"),
                            ("REDEMPTION_VOIDED", "redemption voided"),
                            ("POINTS_EXPIRED", "points expired"),
                            ("ADMIN_ADJUSTMENT", "adjustment"),
                            ("BALANCE_IMPORTED", "balance imported"),
                            ("MERGE_OUT", "merged into another card"),
                            ("MERGE_IN", "merged from another card"),
                            ("CARD_DEACTIVATED", "card deactivated"),
                            ("CARD_REACTIVATED", "card reactivated"),
                        ],
                        max_length=20,
                    ),
                ),
                ("points_delta", models.IntegerField(default=0)),
                ("stamps_delta", models.IntegerField(default=0)),
                ("points_balance_after", models.IntegerField()),
                ("stamps_balance_after", models.IntegerField()),
                (
                    "amount_minor",
                    models.BigIntegerField(blank=True, help_text="In minor units.", null=True, verbose_name="amount"),
                ),
                ("points_per_unit", models.DecimalField(blank=True, decimal_places=4, max_digits=10, null=True)),
                ("actor", models.CharField(blank=True, help_text="Who or what caused it.", max_length=150)),
                ("receipt_number", models.CharField(blank=True, max_length=64)),
                ("reverses_in_full", models.BooleanField(default=False)),
                (
                    "cycle_started_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="Of an expiry: the last activity, which began the cycle that it ended.",
                        null=True,
                    ),
                ),
                ("idempotency_key", models.CharField(blank=True, max_length=128)),
                ("reason", models.CharField(blank=True, max_length=500)),
                ("details", models.JSONField(blank=True, default=dict)),
                ("transaction_at", models.DateTimeField(help_text="When it happened in the shop.")),
                ("created_at", models.DateTimeField(help_text="When it was written.")),
                ("client_address", models.CharField(blank=True, max_length=45)),
                ("client_agent", models.CharField(blank=True, max_length=200)),
                (
                    "card",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="transactions",
                        to="loyalty.card",
                    ),
                ),
                (
                    "expiration_run",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="loyalty.expirationrun",
                    ),
                ),
                (
                    "merchant",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="loyalty.merchant",
                    ),
                ),
                (
                    "reverses",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="reversals",
                        to="loyalty.transaction",
                    ),
                ),
                (
                    "reward",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="loyalty.reward",
                    ),
                ),
                (
                    "staff_member",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="loyalty.staffmember",
                    ),
                ),
                (
                    "store",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="loyalty.store",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="ReceiptClaim",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("receipt_number", models.CharField(max_length=64)),
                (
                    "store",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="loyalty.store",
                    ),
                ),
                (
                    "transaction",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="receipt_claim",
                        to="loyalty.transaction",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="UserApiKey",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("label", models.CharField(max_length=80)),
                ("prefix", models.CharField(max_length=12)),
                ("key_hash", models.CharField(help_text="SHA-256 of the key.", max_length=64, unique=True)),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
                ("last_used_at", models.DateTimeField(blank=True, null=True)),
                ("revoked_at", models.DateTimeField(blank=True, null=True)),
                ("expires_at", models.DateTimeField(blank=True, null=True)),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="CardBalance",
            fields=[
                (
                    "card",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        primary_key=True,
                        related_name="balance",
                        serialize=False,
                        to="loyalty.card",
                    ),
                ),
                ("points_balance", models.IntegerField(default=0)),
                ("stamp_count", models.IntegerField(default=0)),
                ("lifetime_points_earned", models.BigIntegerField(default=0)),
                ("lifetime_points_redeemed", models.BigIntegerField(default=0)),
                ("lifetime_points_expired", models.BigIntegerField(default=0)),
                ("last_seq", models.PositiveIntegerField(default=0)),
                ("last_activity_at", models.DateTimeField()),
                (
                    "last_expiration_warning_at",
                    models.DateTimeField(help_text="Null: not warned in this cycle.", null=True),
                ),
                ("expiration_warned_for", models.DateField(help_text="The last day that was promised.", null=True)),
                ("version", models.PositiveIntegerField(default=0)),
                ("changed_at", models.DateTimeField()),
                (
                    "program",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="loyalty.program",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="CardImportRow",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("line", models.PositiveIntegerField()),
                ("external_id", models.TextField(blank=True)),
                ("first_name", models.TextField(blank=True)),
                ("last_name", models.TextField(blank=True)),
                ("email", models.TextField(blank=True)),
                ("phone", models.TextField(blank=True)),
                ("birth_date", models.TextField(blank=True)),
                ("locale", models.TextField(blank=True)),
                ("points", models.TextField(blank=True)),
                ("stamps", models.TextField(blank=True)),
                ("last_activity_on", models.TextField(blank=True)),
                ("problems", models.JSONField(blank=True, default=list, help_text='A list of {"column", "reason"}.')),
                (
                    "card_import",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="lines",
                        to="loyalty.cardimport",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("card_import", "line"), name="card_import_row_once_per_line")
                ],
            },
        ),
        migrations.CreateModel(
            name="ExemptionChange",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("exempt", models.BooleanField()),
                ("reason", models.CharField(max_length=500)),
                ("actor", models.CharField(max_length=150)),
                ("changed_at", models.DateTimeField()),
                (
                    "card",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="exemption_changes", to="loyalty.card"
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("reason", ""), _negated=True), name="exemption_change_has_a_reason"
                    )
                ],
            },
        ),
        pgtrigger.migrations.AddTrigger(
            model_name="exemptionchange",
            trigger=pgtrigger.compiler.Trigger(
                name="append_only",
                sql=pgtrigger.compiler.UpsertTriggerSql(
                    func="RAISE EXCEPTION 'pgtrigger: Cannot update or delete rows from % table', TG_TABLE_NAME;",
                    hash="9c57629f7c358e9d7d1c730ca514ffa3a4956af7",
                    operation="UPDATE OR DELETE",
                    pgid="pgtrigger_append_only_8706a",
                    table="loyalty_exemptionchange",
                    when="BEFORE",
                ),
            ),
        ),
        migrations.AddConstraint(
            model_name="membership",
            constraint=models.UniqueConstraint(fields=("user", "merchant"), name="membership_once_per_merchant"),
        ),
        migrations.AddConstraint(
            model_name="idempotencykey",
            constraint=models.UniqueConstraint(fields=("merchant", "key"), name="idempotency_key_once_per_merchant"),
        ),
        migrations.AddIndex(
            model_name="expirationrun",
            index=models.Index(
                condition=models.Q(("status", "running")), fields=["status"], name="expiration_run_running"
            ),
        ),
        migrations.AddIndex(
            model_name="expirationrun",
            index=models.Index(models.OrderBy(models.F("started_at"), descending=True), name="expiration_run_newest"),
        ),
        migrations.AddConstraint(
            model_name="expirationrun",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("finished_at", None), ("status", "running")),
                    models.Q(models.Q(("status", "running"), _negated=True), ("finished_at__isnull", False)),
                    _connector="OR",
                ),
                name="expiration_run_ends_when_not_running",
            ),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name="expirationrun",
            trigger=pgtrigger.compiler.Trigger(
                name="never_deleted",
                sql=pgtrigger.compiler.UpsertTriggerSql(
                    func="RAISE EXCEPTION 'pgtrigger: Cannot delete rows from % table', TG_TABLE_NAME;",
                    hash="c8346947d21f883b9102d87e361f38a8c48b5841",
                    operation="DELETE",
                    pgid="pgtrigger_never_deleted_1d639",
                    table="loyalty_expirationrun",
                    when="BEFORE",
                ),
            ),
        ),
        migrations.AddConstraint(
            model_name="customer",
            constraint=models.UniqueConstraint(
                models.F("merchant"),
                django.db.models.functions.text.Lower("email"),
                condition=models.Q(("email", ""), _negated=True),
                name="customer_email_once_per_merchant",
            ),
        ),
        migrations.AddConstraint(
            model_name="customer",
            constraint=models.UniqueConstraint(
                condition=models.Q(("phone", ""), _negated=True),
                fields=("merchant", "phone"),
                name="customer_phone_once_per_merchant",
            ),
        ),
        migrations.AddConstraint(
            model_name="customer",
            constraint=models.UniqueConstraint(
                condition=models.Q(("external_id", ""), _negated=True),
                fields=("merchant", "external_id"),
                name="customer_external_id_once_per_merchant",
            ),
        ),
        migrations.AddConstraint(
            model_name="customer",
            constraint=models.CheckConstraint(
                condition=models.Q(("phone", ""), ("phone__regex", "^\\+[1-9][0-9]{6,14}$"), _connector="OR"),
                name="customer_phone_is_e164",
            ),
        ),
        migrations.AddConstraint(
            model_name="cardimport",
            constraint=models.UniqueConstraint(fields=("merchant", "sha256"), name="card_import_once_per_file"),
        ),
        migrations.AddConstraint(
            model_name="program",
            constraint=models.CheckConstraint(
                condition=models.Q(("points_per_unit__gte", 0)), name="program_rate_not_negative"
            ),
        ),
        migrations.AddConstraint(
            model_name="program",
            constraint=models.CheckConstraint(
                condition=models.Q(("stamps_target__gte", 1)), name="program_stamps_target_positive"
            ),
        ),
        migrations.AddConstraint(
            model_name="program",
            constraint=models.CheckConstraint(
                condition=models.Q(("kind__in", ["points", "stamps", "hybrid"])), name="program_kind_known"
            ),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name="policychange",
            trigger=pgtrigger.compiler.Trigger(
                name="append_only",
                sql=pgtrigger.compiler.UpsertTriggerSql(
                    func="RAISE EXCEPTION 'pgtrigger: Cannot update or delete rows from % table', TG_TABLE_NAME;",
                    hash="9b7ee876d57871884af656b3c6c2263178a2022f",
                    operation="UPDATE OR DELETE",
                    pgid="pgtrigger_append_only_d6e4d",
                    table="loyalty_policychange",
                    when="BEFORE",
                ),
            ),
        ),
        migrations.AddConstraint(
            model_name="reward",
            constraint=models.CheckConstraint(
                condition=models.Q(("points_cost__gte", 1)), name="reward_costs_something"
            ),
        ),
        migrations.AddConstraint(
            model_name="store",
            constraint=models.UniqueConstraint(fields=("merchant", "code"), name="store_code_once_per_merchant"),
        ),
        migrations.AddConstraint(
            model_name="staffmember",
            constraint=models.CheckConstraint(
                condition=models.Q(("role__in", ["cashier", "supervisor", "manager"])),
                name="staff_member_role_is_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="card",
            constraint=models.UniqueConstraint(
                condition=models.Q(("status__in", ["active", "suspended"])),
                fields=("customer",),
                name="card_one_in_use_per_customer",
            ),
        ),
        migrations.AddConstraint(
            model_name="card",
            constraint=models.CheckConstraint(
                condition=models.Q(("status__in", ["active", "suspended", "closed", "merged", "erased"])),
                name="card_status_is_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="card",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("merged_into__isnull", False), ("status", "merged")),
                    models.Q(models.Q(("status", "merged"), _negated=True), ("merged_into", None)),
                    _connector="OR",
                ),
                name="card_merged_names_its_target",
            ),
        ),
        migrations.AddConstraint(
            model_name="card",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("expiration_exempt", False),
                    models.Q(("expiration_exempt_reason", ""), _negated=True),
                    _connector="OR",
                ),
                name="card_exempt_has_a_reason",
            ),
        ),
        migrations.AddConstraint(
            model_name="card",
            constraint=models.CheckConstraint(
                condition=models.Q(("card_number__regex", "^[0-9]{12}$")), name="card_number_has_12_digits"
            ),
        ),
        migrations.AddConstraint(
            model_name="campaign",
            constraint=models.CheckConstraint(
                condition=models.Q(("ends_at__gt", models.F("starts_at"))), name="campaign_ends_after_start"
            ),
        ),
        migrations.AddConstraint(
            model_name="campaign",
            constraint=models.CheckConstraint(
                condition=models.Q(("multiplier__gte", 1)), name="campaign_multiplier_at_least_one"
            ),
        ),
        migrations.AddIndex(
            model_name="transaction",
            index=models.Index(
                models.F("merchant"), models.OrderBy(models.F("id"), descending=True), name="transaction_newest"
            ),
        ),
        migrations.AddIndex(
            model_name="transaction",
            index=models.Index(
                condition=models.Q(("reverses__isnull", False)), fields=["reverses"], name="transaction_reversals"
            ),
        ),
        migrations.AddIndex(
            model_name="transaction",
            index=models.Index(
                condition=models.Q(("expiration_run__isnull", False)),
                fields=["expiration_run", "id"],
                name="transaction_expired_in_run",
            ),
        ),
        migrations.AddIndex(
            model_name="transaction",
            index=django.contrib.postgres.indexes.BrinIndex(fields=["created_at"], name="transaction_created_at"),
        ),
        migrations.AddConstraint(
            model_name="transaction",
            constraint=models.UniqueConstraint(fields=("card", "seq"), name="transaction_one_per_seq"),
        ),
        migrations.AddConstraint(
            model_name="transaction",
            constraint=models.UniqueConstraint(
                condition=models.Q(("idempotency_key", ""), _negated=True),
                fields=("merchant", "idempotency_key"),
                name="transaction_one_per_idempotency_key",
            ),
        ),
        migrations.AddConstraint(
            model_name="transaction",
            constraint=models.UniqueConstraint(
                condition=models.Q(("reverses_in_full", True)),
                fields=("reverses",),
                name="transaction_reversed_in_full_once",
            ),
        ),
        migrations.AddConstraint(
            model_name="transaction",
            constraint=models.UniqueConstraint(
                condition=models.Q(("type", "POINTS_EXPIRED")),
                fields=("card", "cycle_started_at"),
                name="transaction_one_expiry_per_cycle",
            ),
        ),
        migrations.AddConstraint(
            model_name="transaction",
            constraint=models.CheckConstraint(
                condition=models.Q(("points_balance_after__gte", 0), ("stamps_balance_after__gte", 0)),
                name="transaction_balance_not_negative",
            ),
        ),
        migrations.AddConstraint(
            model_name="transaction",
            constraint=models.CheckConstraint(condition=models.Q(("seq__gte", 1)), name="transaction_seq_begins_at_1"),
        ),
        migrations.AddConstraint(
            model_name="transaction",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "type__in",
                        [
                            "CARD_CREATED",
                            "WELCOME_BONUS",
                            "POINTS_EARNED",
                            "POINTS_REDEEMED",
                            "STAMP_EARNED",
                            "STAMP_REDEEMED",
                            "POINTS_VOIDED",
                            "STAMP_VOIDED",
                            "REDEMPTION_VOIDED",
                            "POINTS_EXPIRED",
                            "ADMIN_ADJUSTMENT",
                            "BALANCE_IMPORTED",
                            "MERGE_OUT",
                            "MERGE_IN",
                            "CARD_DEACTIVATED",
                            "CARD_REACTIVATED",
                        ],
                    )
                ),
                name="transaction_type_is_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="transaction",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        (
                            "type__in",
                            ["WELCOME_BONUS", "POINTS_EARNED", "REDEMPTION_VOIDED", "BALANCE_IMPORTED", "MERGE_IN"],
                        ),
                        _negated=True,
                    ),
                    ("points_delta__gte", 0),
                    _connector="OR",
                ),
                name="transaction_gain_not_negative",
            ),
        ),
        migrations.AddConstraint(
            model_name="transaction",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("type__in", ["POINTS_REDEEMED", "POINTS_VOIDED", "MERGE_OUT"]), _negated=True),
                    ("points_delta__lte", 0),
                    _connector="OR",
                ),
                name="transaction_loss_not_positive",
            ),
        ),
        migrations.AddConstraint(
            model_name="transaction",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        (
                            "type__in",
                            [
                                "CARD_CREATED",
                                "STAMP_EARNED",
                                "STAMP_REDEEMED",
                                "STAMP_VOIDED",
                                "CARD_DEACTIVATED",
                                "CARD_REACTIVATED",
                            ],
                        ),
                        _negated=True,
                    ),
                    ("points_delta", 0),
                    _connector="OR",
                ),
                name="transaction_moves_no_points",
            ),
        ),
        migrations.AddConstraint(
            model_name="transaction",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        (
                            "type__in",
                            [
                                "ADMIN_ADJUSTMENT",
                                "POINTS_VOIDED",
                                "STAMP_VOIDED",
                                "REDEMPTION_VOIDED",
                                "MERGE_OUT",
                                "MERGE_IN",
                                "CARD_DEACTIVATED",
                                "CARD_REACTIVATED",
                            ],
                        ),
                        _negated=True,
                    ),
                    models.Q(models.Q(("reason", ""), _negated=True), models.Q(("actor", ""), _negated=True)),
                    _connector="OR",
                ),
                name="transaction_by_hand_has_actor_and_reason",
            ),
        ),
        migrations.AddConstraint(
            model_name="transaction",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("type", "POINTS_EXPIRED"), _negated=True),
                    models.Q(
                        ("cycle_started_at__isnull", False),
                        ("expiration_run__isnull", False),
                        ("points_balance_after", 0),
                        ("points_delta__lt", 0),
                    ),
                    _connector="OR",
                ),
                name="transaction_expiry_explains_itself",
            ),
        ),
        migrations.AddConstraint(
            model_name="transaction",
            constraint=models.CheckConstraint(
                condition=models.Q(("reverses_in_full", False), ("reverses__isnull", False), _connector="OR"),
                name="transaction_full_reversal_of_one",
            ),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name="transaction",
            trigger=pgtrigger.compiler.Trigger(
                name="append_only",
                sql=pgtrigger.compiler.UpsertTriggerSql(
                    func="\nIF TG_OP = 'UPDATE'\n    AND to_jsonb(NEW) - ARRAY['reason', 'details', 'client_address', 'client_agent']\n      = to_jsonb(OLD) - ARRAY['reason', 'details', 'client_address', 'client_agent']\n    AND NEW.reason IN (OLD.reason, 'erased')\n    AND NEW.details IN (OLD.details, '\"erased\"'::jsonb)\n    AND NEW.client_address IN (OLD.client_address, 'erased')\n    AND NEW.client_agent IN (OLD.client_agent, 'erased')\nTHEN\n    RETURN NEW;\nEND IF;\nRAISE EXCEPTION 'ledger rows are never changed or deleted (row %)', OLD.id USING ERRCODE = 'check_violation';\n",
                    hash="1c652c6fc2011bc9eff9251e957a94f7f1b39dc4",
                    operation="UPDATE OR DELETE",
                    pgid="pgtrigger_append_only_a5e8d",
                    table="loyalty_transaction",
                    when="BEFORE",
                ),
            ),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name="transaction",
            trigger=pgtrigger.compiler.Trigger(
                name="never_truncated",
                sql=pgtrigger.compiler.UpsertTriggerSql(
                    func="\nRAISE EXCEPTION 'the ledger is never truncated' USING ERRCODE = 'check_violation';\n",
                    hash="dd311663228b75d91d19724ee6a7fa97ef06b719",
                    level="STATEMENT",
                    operation="TRUNCATE",
                    pgid="pgtrigger_never_truncated_91d53",
                    table="loyalty_transaction",
                    when="BEFORE",
                ),
            ),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name="transaction",
            trigger=pgtrigger.compiler.Trigger(
                name="continues_the_one_before",
                sql=pgtrigger.compiler.UpsertTriggerSql(
                    func="\nIF EXISTS (\n    SELECT FROM new_rows\n    LEFT JOIN loyalty_transaction before ON before.card_id = new_rows.card_id AND before.seq = new_rows.seq - 1\n    LEFT JOIN loyalty_cardbalance balance ON balance.card_id = new_rows.card_id\n    WHERE new_rows.points_balance_after <> COALESCE(before.points_balance_after, 0) + new_rows.points_delta\n       OR new_rows.stamps_balance_after <> COALESCE(before.stamps_balance_after, 0) + new_rows.stamps_delta\n       OR (new_rows.seq > 1 AND before.id IS NULL)\n       OR balance.last_seq IS NULL OR balance.last_seq < new_rows.seq\n) THEN\n    RAISE EXCEPTION 'a ledger row does not continue the one before it' USING ERRCODE = 'check_violation';\nEND IF;\nIF EXISTS (\n    SELECT FROM new_rows\n    JOIN loyalty_card card ON card.id = new_rows.card_id\n    JOIN loyalty_program program ON program.id = card.program_id\n    LEFT JOIN loyalty_expirationrun run ON run.id = new_rows.expiration_run_id\n    WHERE program.merchant_id <> new_rows.merchant_id\n       OR (new_rows.expiration_run_id IS NOT NULL AND run.id IS NULL)\n) THEN\n    RAISE EXCEPTION 'a ledger row names another merchant than its card, or an unknown run'\n        USING ERRCODE = 'foreign_key_violation';\nEND IF;\nRETURN NULL;\n",
                    hash="5a2b2b91f67d900adfb94b4a69a0820ca195242b",
                    level="STATEMENT",
                    operation="INSERT",
                    pgid="pgtrigger_continues_the_one_before_5f4e6",
                    referencing="REFERENCING NEW TABLE AS new_rows ",
                    table="loyalty_transaction",
                    when="AFTER",
                ),
            ),
        ),
        migrations.AddConstraint(
            model_name="receiptclaim",
            constraint=models.UniqueConstraint(
                fields=("store", "receipt_number"), name="receipt_claimed_once_per_store"
            ),
        ),
        migrations.AddIndex(
            model_name="cardbalance",
            index=models.Index(
                models.F("program"),
                models.F("last_activity_at"),
                models.F("card"),
                condition=models.Q(("last_expiration_warning_at", None), ("points_balance__gt", 0)),
                name="card_idle_not_warned",
            ),
        ),
        migrations.AddIndex(
            model_name="cardbalance",
            index=models.Index(
                models.F("program"),
                models.F("expiration_warned_for"),
                models.F("card"),
                condition=models.Q(("last_expiration_warning_at__isnull", False), ("points_balance__gt", 0)),
                name="card_warned_for",
            ),
        ),
        migrations.AddConstraint(
            model_name="cardbalance",
            constraint=models.CheckConstraint(
                condition=models.Q(("points_balance__gte", 0)), name="card_points_not_negative"
            ),
        ),
        migrations.AddConstraint(
            model_name="cardbalance",
            constraint=models.CheckConstraint(
                condition=models.Q(("stamp_count__gte", 0)), name="card_stamps_not_negative"
            ),
        ),
        migrations.AddConstraint(
            model_name="cardbalance",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("last_expiration_warning_at", None), ("expiration_warned_for__isnull", False), _connector="OR"
                ),
                name="card_warning_names_a_day",
            ),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name="cardbalance",
            trigger=pgtrigger.compiler.Trigger(
                name="never_deleted",
                sql=pgtrigger.compiler.UpsertTriggerSql(
                    func="RAISE EXCEPTION 'pgtrigger: Cannot delete rows from % table', TG_TABLE_NAME;",
                    hash="ddd021c092e434d9c51f4db72d9bab85da863818",
                    operation="DELETE",
                    pgid="pgtrigger_never_deleted_6c187",
                    table="loyalty_cardbalance",
                    when="BEFORE",
                ),
            ),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name="cardbalance",
            trigger=pgtrigger.compiler.Trigger(
                name="change_equals_last_row",
                sql=pgtrigger.compiler.UpsertTriggerSql(
                    func="\nIF EXISTS (\n    SELECT FROM new_balances\n    LEFT JOIN loyalty_transaction last ON last.card_id = new_balances.card_id AND last.seq = new_balances.last_seq\n    WHERE last.points_balance_after IS DISTINCT FROM new_balances.points_balance\n       OR last.stamps_balance_after IS DISTINCT FROM new_balances.stamp_count\n) THEN\n    RAISE EXCEPTION 'a balance is not what the last ledger row of its card says' USING ERRCODE = 'check_violation';\nEND IF;\nRETURN NULL;\n",
                    hash="4e6421b76c45d71f10ab3c8ac61e92247f929975",
                    level="STATEMENT",
                    operation="UPDATE",
                    pgid="pgtrigger_change_equals_last_row_8804f",
                    referencing="REFERENCING NEW TABLE AS new_balances ",
                    table="loyalty_cardbalance",
                    when="AFTER",
                ),
            ),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name="cardbalance",
            trigger=pgtrigger.compiler.Trigger(
                name="beginning_equals_last_row",
                sql=pgtrigger.compiler.UpsertTriggerSql(
                    constraint="CONSTRAINT",
                    func="\nIF NOT EXISTS (\n    SELECT FROM loyalty_transaction\n    WHERE card_id = NEW.card_id AND seq = NEW.last_seq\n      AND points_balance_after = NEW.points_balance AND stamps_balance_after = NEW.stamp_count\n) THEN\n    RAISE EXCEPTION 'the balance of card % is not what its last ledger row says', NEW.card_id\n        USING ERRCODE = 'check_violation';\nEND IF;\nRETURN NULL;\n",
                    hash="5e7d743f6a0f6113b3d3902bfccd64121f64d7c3",
                    operation="INSERT",
                    pgid="pgtrigger_beginning_equals_last_row_d4f42",
                    table="loyalty_cardbalance",
                    timing="DEFERRABLE INITIALLY DEFERRED",
                    when="AFTER",
                ),
            ),
        ),
    ]
