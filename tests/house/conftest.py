from tests.fakes.smtp import mail_to_smtp_server, smtp_server

__all__ = ["mail_to_smtp_server", "smtp_server"]
