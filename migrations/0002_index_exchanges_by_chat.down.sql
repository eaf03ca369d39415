DROP INDEX exchanges_by_chat;
